/**
 * An open transaction in a forgotten psql is the commonest way to stop a system whose state is
 * rows. For every lock that Mooring's own work needs, one of three holds. It is passed by (skip
 * locked), no other session needs it, or the server ends the transaction that holds it. Each story
 * leaves a transaction open and lets the fleet go on around it.
 */
import t from 'tap'
import { waitFor } from '../helpers/wait-for.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
  type TestNode,
} from '../helpers/factories.js'
import {
  activity,
  gateBefore,
  openSession,
  stage,
  waitsFor,
  type Session,
  type Stage,
} from './stage.js'

interface Scene {
  pg: Stage
  hostA: TestNode
  hostB: TestNode
  psql: Session
  fleet: Session
}

/**
 * host-a and host-b with four deployments. Everything the fleet does, it does without waiting for
 * psql.
 */
async function aFleet(t: Parameters<typeof stage>[0]): Promise<Scene> {
  const pg = await stage(t)
  const hostA = await node(pg.sql, { name: 'host-a' })
  const hostB = await node(pg.sql, { name: 'host-b' })
  await deployments(pg.sql, 4)
  t.equal((await pg.sql`select * from mooring.claim()`).length, 4)
  // no worker ticks while a story waits for the server, and that is no outage
  await pg.sql`update mooring.setting set lease_ttl = '10 min'`
  await pg.sql`select mooring.tick('worker')`
  for (const row of await assignments(pg.sql))
    await report(pg.sql, row.node === 'host-a' ? hostA : hostB, row, 'running')
  const fleet = await pg.session('fleet')
  await fleet.sql`select set_config('lock_timeout', '5 s', false)`
  return { pg, hostA, hostB, psql: await pg.session('psql'), fleet }
}

async function beatsAndReports({ pg, hostA, hostB, fleet }: Scene): Promise<void> {
  await beat(fleet.sql, hostA)
  await beat(fleet.sql, hostB)
  for (const row of await assignments(pg.sql))
    await report(fleet.sql, row.node === 'host-a' ? hostA : hostB, row, 'running')
}

t.test(
  'select for update of node rows: beats, reports, claims, reaps and registrations go on',
  async (t) => {
    const scene = await aFleet(t)
    const { pg, hostA, psql, fleet } = scene
    await psql.begin()
    await psql.sql`select * from mooring.node for update`
    await beatsAndReports(scene)
    const late = await deployment(fleet.sql)
    t.equal((await fleet.sql`select * from mooring.claim()`).length, 1)
    await age(pg.sql, 'host-b', '1 hour ago')
    t.equal((await fleet.sql`select * from mooring.reap()`).length, 2)
    t.equal((await fleet.sql`select * from mooring.claim()`).length, 2)
    t.match(await assignments(pg.sql, late), [{ epoch: '1' }])
    // the agent of host-a starts again, as it was
    await fleet.sql`
      select *
        from mooring.register_node(
          'host-a', gen_random_uuid(), '.', '{npm,exec}', replaces => ${hostA.session}
        )`
    t.pass('nobody waited')
  },
)

t.test('alter table node, not committed: beats go on, so nobody is fenced', async (t) => {
  const { pg, hostA, hostB, psql, fleet } = await aFleet(t)
  await psql.begin()
  await psql.sql`alter table mooring.node add column rack text`
  t.equal((await beat(fleet.sql, hostA)).owned, 2)
  t.equal((await beat(fleet.sql, hostB)).owned, 2)
  const mine =
    await fleet.sql`select * from mooring.assignments_of(${hostA.name}, ${hostA.session})`
  await fleet.sql`
    select *
      from mooring.report(
        ${hostA.name}, ${hostA.session},
        ${fleet.sql.json(mine.map((of) => ({ ...of, state: 'running' })))}
      )`
  await psql.rollback()
  // the same with the lock behind another one, as a migration takes it
  await psql.begin()
  await psql.sql`select count(*) from mooring.node`
  const migration = await pg.session('migration')
  const altering = migration.start((sql) => sql`alter table mooring.node add column rack text`)
  await waitsFor(t, pg, migration, psql)
  t.equal((await beat(fleet.sql, hostA)).owned, 2)
  await psql.commit()
  await altering.done
})

t.test(
  'negative control: a beat that looks its node up in the table node waits for the alter table',
  async (t) => {
    const { pg, hostA, psql, fleet } = await aFleet(t)
    await pg.sql.unsafe(`create function mooring.beat_by_node(node text, session uuid) returns void
      language sql as $$
    update mooring.heartbeat h
       set beat_at = clock_timestamp()
     where h.node_id = (select n.id from mooring.node n where n.name = beat_by_node.node)
       and h.session = beat_by_node.session $$`)
    await psql.begin()
    await psql.sql`alter table mooring.node add column rack text`
    await t.rejects(fleet.sql`select mooring.beat_by_node(${hostA.name}, ${hostA.session})`, {
      code: '55P03',
    })
  },
)

t.test(
  'uncommitted edits of deployments: their rows are passed by, all else is placed, beats go on',
  async (t) => {
    const scene = await aFleet(t)
    const { pg, psql, fleet } = scene
    const [placed] = await assignments(pg.sql)
    const waiting = await deployment(pg.sql)
    await psql.begin()
    await psql.sql`
      update mooring.deployment
         set enabled = false
       where id in (${placed!.deployment_id}, ${waiting})`
    await beatsAndReports(scene)
    const late = await deployments(fleet.sql, 2)
    t.same(
      (await fleet.sql`select deployment_id from mooring.claim()`).map((row) => row.deployment_id),
      late,
    )
    t.match(await assignments(pg.sql, waiting), [{ node: null }])
  },
)

t.test(
  'uncommitted edits and a dead host: other work goes on, the edited row waits ' +
    'and says for which pid',
  async (t) => {
    const { pg, psql, fleet } = await aFleet(t)
    const [held, free] = (await assignments(pg.sql)).filter((row) => row.node === 'host-a')
    await psql.begin()
    await psql.sql`update mooring.deployment set enabled = false where id = ${held!.deployment_id}`
    await age(pg.sql, 'host-a', '1 hour ago')
    t.same(
      (await fleet.sql`select id from mooring.reap()`).map((row) => row.id),
      [free!.id],
    )
    const [event] = await pg.sql`select kind, assignment_id, detail from mooring.last_events(1)`
    t.match(event, { kind: 'reap_blocked', assignment_id: held!.id, detail: { pid: psql.pid } })
    await psql.rollback()
    t.same(
      (await fleet.sql`select id from mooring.reap()`).map((row) => row.id),
      [held!.id],
    )
  },
)

t.test(
  'uncommitted edits and a move or restart: it waits without the placement lock, ' +
    'and says for which',
  async (t) => {
    const { pg, psql, fleet } = await aFleet(t)
    const [moved, restarted] = (await assignments(pg.sql)).filter((row) => row.node === 'host-a')
    await psql.begin()
    await psql.sql`
      update mooring.deployment
         set enabled = false
       where id in (${moved!.deployment_id}, ${restarted!.deployment_id})`
    const [mover, restarter] = [await pg.session('mover'), await pg.session('restarter')]
    const moving = mover.start((sql) => sql`select from mooring.reassign(${moved!.id}, 'host-b')`)
    const restarting = restarter.start((sql) => sql`select from mooring.restart(${restarted!.id})`)
    await waitsFor(t, pg, mover, psql)
    await waitsFor(t, pg, restarter, psql)
    t.match(await pg.sql`select mooring_internal.placement_lock_holder() as pid`, [{ pid: null }])
    await deployment(fleet.sql)
    t.equal((await fleet.sql`select from mooring.claim()`).length, 1)
    for (const [{ done }, { id }] of [
      [moving, moved!],
      [restarting, restarted!],
    ] as const) {
      await t.rejects(done, {
        code: 'MR004',
        message: `assignment ${id} has been locked by another transaction for more than 00:00:05`,
        detail: `pid ${psql.pid} holds it`,
      })
    }
  },
)

t.test(
  'an uncommitted version or environment holds up no failover: it changes nothing of the placement',
  async (t) => {
    const { pg, psql, fleet } = await aFleet(t)
    await psql.begin()
    await psql.sql`
      update mooring.deployment set env = '{"LEVEL": "debug"}', generation = generation + 1`
    await age(pg.sql, 'host-a', '1 hour ago')
    t.equal((await fleet.sql`select id from mooring.reap()`).length, 2)
  },
)

t.test('select for update of run rows: reaping goes on', async (t) => {
  const { pg, psql, fleet } = await aFleet(t)
  await psql.begin()
  await psql.sql`select * from mooring.run for update`
  await age(pg.sql, 'host-a', '1 hour ago')
  t.equal((await fleet.sql`select * from mooring.reap()`).length, 2)
  t.equal((await fleet.sql`select * from mooring.claim()`).length, 2)
})

t.test('uncommitted edits of daemons do not hold up the rounds', async (t) => {
  const { pg, hostA, psql, fleet } = await aFleet(t)
  const daemon = await deployment(pg.sql, { type: 'daemon' })
  await psql.begin()
  await psql.sql`update mooring.deployment set enabled = false where id = ${daemon}`
  await fleet.sql`select * from mooring.evict()`
  await fleet.sql`update mooring.node set trusts = 'nothing-of-the-kind' where name = 'host-a'`
  await fleet.sql`
    select *
      from mooring.register_node(
        'host-a', gen_random_uuid(), '^http-server@', '{npm}', replaces => ${hostA.session}
      )`
  await fleet.sql`select * from mooring.tick('agent host-b', inline => true)`
  await psql.commit()
  t.match(await assignments(pg.sql, daemon), [{ wanted: 'stop' }, { wanted: 'stop' }])
})

/** Verbs that hold what others need: the server ends them when they sit idle. */
for (const [verb, call] of [
  ['reap', () => 'select * from mooring.reap()'],
  ['tick', () => `select * from mooring.tick('somebody in psql')`],
  [
    'tick, running the rounds itself',
    () => `select * from mooring.tick('somebody in psql', inline => true)`,
  ],
  ['evict', () => 'select * from mooring.evict()'],
  ['heartbeat', ({ hostB }) => `select * from mooring.heartbeat('host-b', '${hostB.session}')`],
  [
    'register_node',
    ({ hostB }) =>
      `
        select *
          from mooring.register_node(
            'host-b', gen_random_uuid(), '.', '{npm,exec}', replaces => '${hostB.session}'
          )`,
  ],
  ['leave', ({ hostB }) => `select * from mooring.leave('host-b', '${hostB.session}')`],
  ['report', ({ hostB }) => `select * from mooring.report('host-b', '${hostB.session}', '[]')`],
] satisfies [string, (scene: Scene) => string][]) {
  t.test(
    `begin; select ${verb}: the server ends the transaction, and the fleet goes on`,
    async (t) => {
      const scene = await aFleet(t)
      const { pg, hostA, psql, fleet } = scene
      await pg.sql`update mooring.setting set placement_lock_timeout = '300 ms'`
      await age(pg.sql, 'host-b', '1 hour ago')
      await pg.sql`update mooring_internal.round set due_at = '-infinity'`
      await psql.begin()
      await psql.sql.unsafe(call(scene))
      await beat(fleet.sql, hostA)
      await waitFor(
        async () => !(await pg.sql`select from pg_stat_activity where pid = ${psql.pid}`).length,
        { label: 'psql is gone', show: () => activity(pg.sql) },
      )
      t.equal(
        (await fleet.sql`select * from mooring.reap()`).length,
        2,
        'what psql began is undone, and the work of the dead host is reaped',
      )
      t.ok(
        (await fleet.sql`select rounds from mooring.tick('worker')`)[0]!.rounds.includes('place'),
        'the rounds are there to be won',
      )
      t.equal((await fleet.sql`select hold from mooring.fleet`)[0]!.hold, null)
    },
  )
}

t.test(
  'Y39: begin; select read_log: the agent hears of other requests, the server ends the reader',
  async (t) => {
    const { pg, hostA, psql, fleet } = await aFleet(t)
    const requests: string[] = []
    for (const { id } of (await assignments(pg.sql)).filter((row) => row.node === 'host-a'))
      requests.push(
        (
          await pg.sql<{ id: string }[]>`select mooring.request_log(${id}, wait => '20 s') as id`
        )[0]!.id,
      )
    // long enough ago for a reader to repeat the hint
    await pg.sql`update mooring_internal.log_request set hinted_at = hinted_at - interval '2 s'`
    await pg.sql`update mooring.setting set placement_lock_timeout = '300 ms'`
    await psql.begin()
    await psql.sql`select from mooring.read_log(${requests[0]!})`
    t.same(
      (await fleet.sql`select r.request from mooring.log_requests_of('host-a', ${hostA.session}) r`)
        .map(({ request }) => request)
        .sort(),
      requests.sort(),
    )
    await waitFor(
      async () => !(await pg.sql`select from pg_stat_activity where pid = ${psql.pid}`).length,
      { label: 'psql is gone', show: () => activity(pg.sql) },
    )
  },
)

t.test(
  'an agent whose tick is slow lets others write the pulse, and no hold begins behind it',
  async (t) => {
    const { pg, psql: agent, fleet } = await aFleet(t)
    const gate = await gateBefore(pg, 'tick', 'case name')
    await gate.stopHere(agent)
    await pg.sql`update mooring_internal.round set due_at = '-infinity'`
    const ticking = agent.start(
      (sql) => sql`select * from mooring.tick('agent host-b', inline => true)`,
    )
    await waitsFor(t, pg, agent, gate.session)
    await pg.sql`update mooring_internal.pulse set pulse_at = clock_timestamp() - interval '1 min'`
    await fleet.sql`select * from mooring.tick('worker')`
    t.match(
      (
        await pg.sql`
          select pulse_at > clock_timestamp() - interval '30 s' as beats
            from mooring_internal.pulse`
      )[0],
      { beats: true },
    )
    await gate.open()
    t.match(await ticking.done, [{ hold: false }])
  },
)

t.test(
  'a first insert, not committed, keeps no other insert waiting: nothing of it is shared',
  async (t) => {
    const pg = await stage(t)
    const psql = await pg.session('psql')
    await psql.begin()
    // the first deployment ever: its signature, its job and the job's name are all new
    await deployment(psql.sql, { package_name: 'first-of-its-kind', selector: { zone: 'b' } })
    const user = await openSession(pg.client('user'), 'user')
    await user.sql`select set_config('lock_timeout', '10 s', false)`
    await deployment(user.sql, { package_name: 'first-of-its-kind', selector: { zone: 'b' } })
    await deployments(user.sql, 2)
    await node(user.sql, { name: 'host-a', labels: { zone: 'b' } })
    t.equal((await pg.sql`select * from mooring.claim()`).length, 3, 'and they are placed')
    await psql.commit()
    t.equal((await assignments(pg.sql)).length, 4)
  },
)

t.test('five hundred inserts at once commit while one more sits idle', async (t) => {
  const pg = await stage(t)
  // without one a hundred jobs are enough
  await pg.sql`insert into mooring_internal.worker (id, ticked_at) values ('w', 'infinity')`
  await node(pg.sql, { name: 'host-a' })
  const psql = await pg.session('psql')
  await psql.begin()
  await deployment(psql.sql)
  const users = await Promise.all(
    Array.from({ length: 25 }, (_, nr) => openSession(pg.client(`user ${nr}`), `user ${nr}`)),
  )
  await Promise.all(
    users.map(async ({ sql }) => {
      await sql`select set_config('lock_timeout', '10 s', false)`
      for (let nr = 0; nr < 20; nr++)
        await sql`
          insert into mooring.deployment (package_name, package_version, enabled)
          values ('http-server', '14.1.1', true)`
    }),
  )
  t.equal(
    (await pg.sql`select from mooring_jobs.jobs where task_identifier = 'place'`).length,
    501,
    'each has asked for a job of its own, and so has the registration',
  )
  t.equal((await pg.sql`select * from mooring.claim()`).length, 500)
  await psql.commit()
  t.equal((await pg.sql`select * from mooring.claim()`).length, 1)
})

t.test(
  'negative control: with one job key for all, an idle insert stops all other inserts',
  async (t) => {
    const pg = await stage(t)
    await pg.sql.unsafe(`create or replace function mooring_internal.enqueue(task text) returns void
      language plpgsql as $$
    begin
      perform mooring_jobs.add_job(enqueue.task, job_key => enqueue.task, max_attempts => 1);
    end; $$`)
    const psql = await pg.session('psql')
    await psql.begin()
    await deployment(psql.sql)
    const user = await pg.session('user')
    const inserting = user.start(
      (sql) =>
        sql`
          insert into mooring.deployment (package_name, package_version)
          values ('http-server', '14.1.1')`,
    )
    await waitsFor(t, pg, user, psql)
    await psql.commit()
    await inserting.done
  },
)

t.test(
  'negative control: with a table of signatures, the first insert of one stops all others of it',
  async (t) => {
    const pg = await stage(t)
    await pg.sql.unsafe(`
    create table mooring.signature (signature uuid primary key);
    create function mooring.tg_intern() returns trigger language plpgsql as $$
    begin
      insert into mooring.signature values (new.signature) on conflict do nothing;
      return null;
    end; $$;
    create trigger tg_deployment__intern after insert on mooring.deployment
      for each row execute function mooring.tg_intern()`)
    const psql = await pg.session('psql')
    await psql.begin()
    await deployment(psql.sql)
    const user = await pg.session('user')
    const inserting = user.start(
      (sql) =>
        sql`
          insert into mooring.deployment (package_name, package_version)
          values ('http-server', '14.1.1')`,
    )
    await waitsFor(t, pg, user, psql)
    await psql.commit()
    await inserting.done
  },
)
