// Logins of agents beside each other: which one owns a name, which log each may read, and what the
// report of an agent counts in the rounds of all.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { Db } from '../helpers/factories.js'
import { login } from '../helpers/logins.js'
import type { Login } from '../helpers/logins.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'
import type { Attack } from './attacks.js'
import { attacked, fleet, SECRET } from './fleet.js'

t.test(
  'an operator binds a node to another role: the old one is refused from its next beat on',
  async (t) => {
    const { pg, a, b, sessions } = await fleet(t)
    const operator = await login(t, pg, ['mooring_operator'])
    await operator.sql`update mooring.node set role_name = ${a.name} where name = 'host-b'`
    await t.rejects(
      Promise.resolve(b.sql`select * from mooring.heartbeat('host-b', ${sessions.b})`),
      {
        code: 'MR009',
        hint: /An operator may bind it to another role: update mooring.node set role_name/,
      },
    )
    await t.rejects(
      Promise.resolve(
        b.sql`
          select *
            from mooring.register_node('host-b', ${randomUUID()}, '.', replaces => ${sessions.b})`,
      ),
      { code: 'MR009' },
    )
    await t.rejects(
      Promise.resolve(a.sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.')`),
      { code: 'MR002' },
      'the new one waits until the lease of the old one is over',
    )
    await pg.sql`
      update mooring.heartbeat set beat_at = beat_at - interval '1 min' where node = 'host-b'`
    const session = randomUUID()
    await a.sql`select from mooring.register_node('host-b', ${session}, '.')`
    t.match(await a.sql`select h.owned from mooring.heartbeat('host-b', ${session}) h`, [
      { owned: 1 },
    ])
    t.match(
      await pg.sql`
        select e.actor, e.node, e.detail from mooring.event e where e.kind = 'node_rebound'`,
      [
        {
          actor: `${operator.name} (test: another role)`,
          node: 'host-b',
          detail: { from: b.name, to: a.name },
        },
      ],
    )
  },
)

t.test(
  'a free name is bound to the first login that registers it, unless agents may add no nodes',
  async (t) => {
    const { pg, a, b } = await fleet(t)
    const operator = await login(t, pg, ['mooring_operator'])
    await operator.sql`select from mooring.upsert_node('host-c')`
    await a.sql`select from mooring.register_node('host-c', ${randomUUID()}, '.')`
    await t.rejects(
      Promise.resolve(b.sql`select from mooring.register_node('host-c', ${randomUUID()}, '.')`),
      { code: 'MR009' },
    )
    await operator.sql`update mooring.setting set agents_may_add_nodes = false`
    await operator.sql`select from mooring.upsert_node('host-d')`
    await operator.sql`insert into mooring.node (name, role_name) values ('host-e', ${b.name})`
    await attacked(
      t,
      pg,
      b,
      ['host-d', 'host-z'].map((name) => [
        `registers ${name}`,
        'MR009',
        (sql) => sql`select from mooring.register_node(${name}, ${randomUUID()}, '.')`,
      ]),
    )
    await b.sql`select from mooring.register_node('host-e', ${randomUUID()}, '.')`
  },
)

t.test(
  'a log is read by the operator that asked for it: by no viewer, other agent or other operator',
  async (t) => {
    const { pg, a, b, sessions, assignment } = await fleet(t)
    const [ann, bob] = [
      await login(t, pg, ['mooring_operator']),
      await login(t, pg, ['mooring_operator']),
    ]
    const ask = async ({ sql }: Login): Promise<string> =>
      (
        await sql<
          { request: string }[]
        >`select mooring.request_log(${assignment}::bigint, from_byte => 0) as request`
      )[0]!.request
    const answer = ({ sql }: Login, node: string, session: string, request: string) =>
      sql<{ taken: boolean }[]>`
        select mooring.answer_log(
          ${node}, ${session}, ${request}, 0, ${Buffer.from(SECRET)}, null, false, 3, null
        ) as taken`
    const request = await ask(ann)
    t.same(
      await a.sql`select from mooring.log_requests_of('host-a', ${sessions.a})`,
      [],
      'another agent does not hear of it',
    )
    t.match(
      await answer(a, 'host-a', sessions.a, request),
      [{ taken: false }],
      'and what it says instead is not believed',
    )
    await attacked(t, pg, a, [
      [
        'what another node is asked',
        'MR009',
        (sql) => sql`select * from mooring.log_requests_of('host-b', ${sessions.b})`,
      ],
      [
        'an answer in the name of another node',
        'MR009',
        (sql) =>
          sql`
            select mooring.answer_log(
              'host-b', ${sessions.b}, ${request}, 0, 'lie', null, false, 3, null
            )`,
      ],
      [
        'an answer in a log, with the id of the request',
        '42501',
        (sql) => sql`select * from mooring.read_log(${request})`,
      ],
    ])
    t.match(
      await b.sql`
        select q.request, q.assignment_id from mooring.log_requests_of('host-b', ${sessions.b}) q`,
      [{ request, assignment_id: assignment }],
    )
    t.match(
      await answer(b, 'host-b', sessions.b, request),
      [{ taken: true }],
      'negative control: the agent of the node answers',
    )
    const stolen = [
      'the answer to another reader, with the id of the request',
      'MR003',
      (sql) => sql`select * from mooring.read_log(${request})`,
    ] as Attack
    await attacked(t, pg, bob, [stolen])
    await attacked(t, pg, await login(t, pg, ['mooring_viewer']), [[stolen[0], '42501', stolen[2]]])
    t.equal(
      (
        (await ann.sql`select r.data from mooring.read_log(${request}) r`)[0]!['data'] as Buffer
      ).toString(),
      SECRET,
      'negative control: the login that asked reads it',
    )
    const owners = await ask(bob)
    await answer(b, 'host-b', sessions.b, owners)
    t.equal(
      (await pg.sql`select from mooring.read_log(${owners})`).length,
      1,
      'and so does the owner of the schema',
    )
  },
)

t.test('a flood of requests for logs is bounded, and leaves the others their place', async (t) => {
  const { pg, b, sessions, assignment } = await fleet(t)
  const [flooding, other] = [
    await login(t, pg, ['mooring_operator']),
    await login(t, pg, ['mooring_operator']),
  ]
  await flooding.sql.unsafe(
    `do $$
    begin
      for i in 1..1000 loop
        begin
          perform mooring.request_log(${assignment});
        exception when sqlstate 'MR007' then null;
        end;
      end loop;
    end $$`,
  )
  const [{ open } = { open: 0 }] = await pg.sql<
    { open: number }[]
  >`select count(*)::int as open from mooring_internal.log_request`
  t.equal(open, 150)
  t.match(
    await other.sql`select mooring.request_log(${assignment}::bigint) is not null as asked`,
    [{ asked: true }],
    'another operator asks the same node as ever',
  )
  t.equal((await b.sql`select from mooring.log_requests_of('host-b', ${sessions.b})`).length, 151)
  await t.rejects(
    Promise.resolve(flooding.sql`select mooring.request_log(${assignment}::bigint)`),
    { code: 'MR007' },
  )
  await pg.sql`
    update mooring_internal.log_request set requested_at = clock_timestamp() - interval '61 s'`
  t.match(
    await flooding.sql`select mooring.request_log(${assignment}::bigint) is not null as asked`,
    [{ asked: true }],
    'and so does the one that flooded it, in a minute',
  )
})

t.test(
  'two roles register one new name in the same moment: one gets it, the other leaves no trace',
  async (t) => {
    const pg = await testDatabase(t)
    const [a, b] = [await login(t, pg, ['mooring_agent']), await login(t, pg, ['mooring_agent'])]
    await a.sql`begin`
    await a.sql`select from mooring.register_node('host-x', ${randomUUID()}, 'from-a')`
    const second =
      b.sql`select from mooring.register_node('host-x', ${randomUUID()}, 'from-b')`.then(
        () => null,
        (error: unknown) => error as { code: string },
      )
    await waitFor(
      async () =>
        (
          await pg.sql`
            select
              from pg_stat_activity s
             where s.datname = current_database()
               and s.usename = ${b.name}
               and s.wait_event_type = 'Lock'`
        ).length === 1,
      { label: 'the second waits for the first' },
    )
    await a.sql`commit`
    t.match(await second, { code: 'MR009' })
    t.match(await pg.sql`select n.role_name, n.trusts from mooring.node n`, [
      { role_name: a.name, trusts: 'from-a' },
    ])
  },
)

/** Rounds done in time stay so, and the worker stays alive, during a test. */
const slowRounds = (sql: Db) =>
  sql`update mooring.setting set lease_ttl = '1 hour', round_interval = '10 min'`

t.test('a tick of an agent counts only where rounds are left undone', async (t) => {
  const { pg, a } = await fleet(t)
  await slowRounds(pg.sql)
  const [before] = await pg.sql`select p.hold_until from mooring_internal.pulse p`
  await pg.sql`select from mooring.tick('worker-1', inline => true)`
  await pg.sql`select from mooring.tick('worker-1')`
  const lie = Date.now() - 3_600_000
  const [idle] = await a.sql<{ rounds: string[]; hold: boolean }[]>`
    select t.rounds, t.hold
      from mooring.tick('agent host-a', inline => true, last_clock_ms => ${lie}, since_ms => 10) t`
  t.match(
    idle,
    { rounds: [], hold: false },
    'a worker works: what is said of the clock is not believed',
  )
  t.same((await pg.sql`select p.hold_until from mooring_internal.pulse p`)[0], before)
  await pg.sql`
    update mooring_internal.round
       set done_at = done_at - interval '15 min', due_at = due_at - interval '15 min'`
  const [overdue] = await a.sql<
    { rounds: string[] }[]
  >`select t.rounds from mooring.tick('agent host-a', inline => true) t`
  t.ok(overdue!.rounds.includes('reap'), 'the worker does nothing: the agent runs the rounds')
})

t.test(
  'while a worker lives, no clock of an agent prolongs or starts a hold, even with rounds overdue',
  async (t) => {
    const { pg, a, sessions } = await fleet(t)
    await slowRounds(pg.sql)
    await pg.sql`select from mooring.tick('worker-1')`
    await pg.sql`delete from mooring_internal.outage_marker`
    await pg.sql`select mooring.reap(), mooring.claim()`
    // the hold began five seconds ago, and a worker has ticked since
    await pg.sql`
      update mooring_internal.pulse
         set pulse_at = clock_timestamp(), hold_until = hold_until - interval '5 s'`
    const holdUntil = async () =>
      (
        await pg.sql<
          { at: string }[]
        >`select p.hold_until::text as at from mooring_internal.pulse p`
      )[0]!.at
    const before = await holdUntil()
    const lie = async () =>
      await a.sql`
        select
          from mooring.tick(
            'agent host-a', inline => true, last_clock_ms => ${Date.now() - 11_000}, since_ms => 0
          )`
    t.match(
      await a.sql`select h.hold, h.round_overdue from mooring.heartbeat('host-a', ${sessions.a}) h`,
      [{ hold: true, round_overdue: false }],
      'in a hold no agent is asked to tick',
    )
    await lie()
    t.equal(await holdUntil(), before)
    await pg.sql`update mooring_internal.round set done_at = done_at - interval '15 min'`
    await lie()
    t.equal(
      await holdUntil(),
      before,
      'a worker that lives and idles: the agent runs the rounds, and its clock counts for nothing',
    )
    await pg.sql`update mooring_internal.round set done_at = done_at - interval '15 min'`
    await pg.sql`delete from mooring_internal.worker`
    await lie()
    t.ok((await holdUntil()) > before, 'with no worker agents are the only other clocks there are')
  },
)
