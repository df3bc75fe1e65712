// What each role may do, and a list of attacks as each of them. An attack succeeds when it is not
// refused with the code named here, or when anything in the database is another than before. What
// roles mean for names, logs and rounds is in roles-among-agents.test.ts.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { assignments, deployment, report } from '../helpers/factories.js'
import { login } from '../helpers/logins.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { emptyDatabase } from '../helpers/postgres.js'
import { ROOT } from '../helpers/root.js'
import { ACTING, DEPLOYING, READING, RESERVED } from './attacks.js'
import { attacked, fleet, SECRET } from './fleet.js'

t.test('D2: an agent acts for its own node', async (t) => {
  const { pg, b, sessions, assignment } = await fleet(t)
  const [answer] =
    await b.sql`select h.owned, h.hold from mooring.heartbeat('host-b', ${sessions.b}) h`
  t.match(answer, { owned: 1, hold: false })
  t.match(
    await b.sql`
      select o.assignment_id, o.env from mooring.assignments_of('host-b', ${sessions.b}) o`,
    [{ assignment_id: assignment, env: { TOKEN: SECRET } }],
    'with the environment it needs',
  )
  t.equal(
    (await b.sql`select from mooring.assignments_of('host-b')`).length,
    1,
    'also without its session',
  )
  const [{ epoch } = { epoch: '' }] = await assignments(pg.sql)
  t.match(
    await b.sql`
      select r.accepted
        from mooring.report(
          'host-b', ${sessions.b},
          ${b.sql.json([{ assignment_id: assignment, epoch, state: 'running' }])}
        ) r`,
    [{ accepted: true }],
  )
  await b.sql`select from mooring.begin_leave('host-b', ${sessions.b})`
  t.match(await b.sql`select mooring.leave('host-b', ${sessions.b}) as freed`, [{ freed: 1 }])
  const again = randomUUID()
  await b.sql`select from mooring.register_node('host-b', ${again}, '.')`
  t.match(await pg.sql`select n.role_name from mooring.node n where n.name = 'host-b'`, [
    { role_name: b.name },
  ])
})

t.test(
  'defect 16: an agent does nothing for the node of another role, not even with its session',
  async (t) => {
    const { pg, a, sessions, assignment } = await fleet(t)
    const [{ epoch } = { epoch: '' }] = await assignments(pg.sql)
    const theirs = sessions.b
    await attacked(t, pg, a, [
      ['a beat', 'MR009', (sql) => sql`select * from mooring.heartbeat('host-b', ${theirs})`],
      [
        'a beat of a guessed session',
        'MR009',
        (sql) => sql`select * from mooring.heartbeat('host-b', ${randomUUID()})`,
      ],
      [
        'its work and environments',
        'MR009',
        (sql) => sql`select * from mooring.assignments_of('host-b')`,
      ],
      [
        'its work and environments, with its session',
        'MR009',
        (sql) => sql`select * from mooring.assignments_of('host-b', ${theirs})`,
      ],
      [
        'a report',
        'MR009',
        (sql) =>
          sql`
            select *
              from mooring.report(
                'host-b', ${theirs},
                ${sql.json([{ assignment_id: assignment, epoch, state: 'stopped' }])}
              )`,
      ],
      ['begin_leave', 'MR009', (sql) => sql`select mooring.begin_leave('host-b', ${theirs})`],
      ['leave', 'MR009', (sql) => sql`select mooring.leave('host-b', ${theirs})`],
      [
        'its name',
        'MR009',
        (sql) => sql`select * from mooring.register_node('host-b', ${randomUUID()}, '.')`,
      ],
      [
        'its name, as its successor',
        'MR009',
        (sql) =>
          sql`
            select *
              from mooring.register_node('host-b', ${randomUUID()}, '.', replaces => ${theirs})`,
      ],
      [
        'its name, as itself',
        'MR009',
        (sql) => sql`select * from mooring.register_node('host-b', ${theirs}, '.')`,
      ],
      [
        'a tick in its name',
        'MR009',
        (sql) => sql`select * from mooring.tick('host-b', inline => true)`,
      ],
      ['a tick as a worker', 'MR009', (sql) => sql`select * from mooring.tick('host-a')`],
      [
        'a tick that has the jobs of others unlocked',
        'MR009',
        (sql) => sql`select * from mooring.tick('agent host-a', '{pool-1}'::text[])`,
      ],
      [
        'a tick for no node',
        'MR009',
        (sql) => sql`select * from mooring.tick(null, inline => true)`,
      ],
      [
        'a node that is not there',
        'MR003',
        (sql) => sql`select * from mooring.heartbeat('host-c', ${theirs})`,
      ],
    ])
    const named = (await a.sql`select * from mooring.heartbeat('host-bb', ${theirs})`.catch(
      (error: unknown) => error,
    )) as { hint: string }
    t.notMatch(named.hint, 'host-b', 'and does not learn the names of other nodes')
    const [mine] = await a.sql`
        select r.accepted
          from mooring.report(
            'host-a', ${sessions.a},
            ${a.sql.json([{ assignment_id: assignment, epoch, state: 'stopped' }])}
          ) r`
    t.match(mine, { accepted: false }, 'reported as its own it is not believed')
    t.match(await assignments(pg.sql), [{ node: 'host-b', epoch }])
  },
)

t.test('negative control: the owner of the schema may act for every node', async (t) => {
  const { pg, sessions } = await fleet(t)
  t.match(await pg.sql`select h.owned from mooring.heartbeat('host-b', ${sessions.b}) h`, [
    { owned: 1 },
  ])
  t.equal((await pg.sql`select from mooring.assignments_of('host-b')`).length, 1)
  await pg.sql`select from mooring.tick('worker-1')`
  const successor = randomUUID()
  await pg.sql`
    select from mooring.register_node('host-b', ${successor}, '.', replaces => ${sessions.b})`
  t.match(
    await pg.sql`select from mooring.node n where n.name = 'host-b' and n.role_name = session_user`,
    [],
    'and leaves it bound as it was',
  )
})

for (const [group, attacks] of [
  ['mooring_agent', [...RESERVED, ...DEPLOYING, ...READING]],
  ['mooring_viewer', [...RESERVED, ...DEPLOYING, ...ACTING]],
  [
    'mooring_operator',
    [...RESERVED.filter(([what]) => what !== 'insert into mooring.node'), ...ACTING],
  ],
  [
    'mooring_workload',
    [
      ...RESERVED.filter(([what]) => what !== 'the row lock of a workload'),
      ...DEPLOYING,
      ...ACTING,
      ...READING,
    ],
  ],
] as const) {
  t.test(`a member of ${group} is refused what is not its business`, async (t) => {
    const { pg } = await fleet(t)
    const attacker = await login(t, pg, [group])
    await attacked(t, pg, attacker, attacks)
    await attacked(t, pg, attacker, [
      [
        'SET ROLE to its group gains nothing',
        '42501',
        async (sql) => {
          await sql.unsafe(`set role ${group}`)
          await sql.unsafe('delete from mooring.assignment')
        },
      ],
    ])
    await attacker.sql.unsafe('reset role')
  })
}

t.test('negative control: the owner is refused none of it', async (t) => {
  const { pg } = await fleet(t)
  for (const [what, , attack] of [...DEPLOYING, ...READING]) {
    const error = await attack(pg.sql).then(
      () => null,
      (thrown: unknown) => thrown as { code: string },
    )
    t.not(error?.code, '42501', what)
  }
})

t.test('a login without a role gets nothing, and PUBLIC has nothing', async (t) => {
  const { pg } = await fleet(t)
  const stranger = await login(t, pg)
  await attacked(t, pg, stranger, [...RESERVED, ...DEPLOYING, ...ACTING, ...READING])
})

t.test("SET ROLE to another agent changes nothing: a node is the login's", async (t) => {
  const { pg, a, b, sessions } = await fleet(t)
  await pg.sql.unsafe(`grant ${b.name} to ${a.name}`)
  await attacked(t, pg, a, [
    [
      'a beat as the other role',
      'MR009',
      async (sql) => {
        await sql.unsafe(`set role ${b.name}`)
        await sql`select * from mooring.heartbeat('host-b', ${sessions.b})`
      },
    ],
  ])
  await a.sql.unsafe('reset role')
})

t.test('a viewer sees every view, explains and reads history, and no environment', async (t) => {
  const { pg, deployment: id, sessions } = await fleet(t)
  const [owned] = await assignments(pg.sql, id)
  await report(pg.sql, { name: 'host-b', session: sessions.b }, owned!, 'failed', { error: 'no' })
  await deployment(pg.sql, {
    package_name: 'left-pad',
    selector: { nowhere: true },
    env: { TOKEN: SECRET },
  })
  await pg.sql`select from mooring.drain_node('host-a')`
  const viewer = await login(t, pg, ['mooring_viewer'])
  const views = await pg.sql<{ name: string }[]>`
    select c.oid::regclass::text as name
      from pg_class c
     where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v'`
  const texts: unknown[] = []
  for (const { name } of views) {
    const rows = await viewer.sql.unsafe(`select * from ${name}`)
    t.ok(rows.length > 0, name)
    texts.push(rows)
  }
  texts.push(
    await viewer.sql`select * from mooring.explain(${id}::bigint)`,
    await viewer.sql`select * from mooring.last_events(1000)`,
    await viewer.sql`select * from mooring.placements_of('host-b')`,
    await viewer.sql`select id, name, labels, replicas from mooring.deployment`,
    await viewer.sql`select * from mooring.node`,
    await viewer.sql`select * from mooring.setting`,
    await viewer.sql`select * from mooring.event`,
  )
  t.notMatch(JSON.stringify(texts), SECRET)
})

t.test('D3: an operator deploys, edits nodes, drains, moves and reads environments', async (t) => {
  const { pg, b, deployment: id } = await fleet(t)
  const operator = await login(t, pg, ['mooring_operator'])
  const { sql } = operator
  const [made] = await sql<{ id: string }[]>`
    insert into mooring.deployment (package_name, env)
    values ('http-server', '{"A": "1"}')
    returning id`
  t.equal((await assignments(pg.sql, made!.id)).length, 1, 'the triggers have the rights they need')
  await sql`update mooring.deployment set replicas = 2, env = '{"A": "2"}' where id = ${made!.id}`
  await sql`delete from mooring.deployment where id = ${made!.id}`
  t.match(await sql`select d.env from mooring.deployment d where d.id = ${id}`, [
    { env: { TOKEN: SECRET } },
  ])
  await sql`
    update mooring.node
       set labels = '{"zone": "b"}', weight = 50, max_assignments = 3
     where name = 'host-b'`
  await sql`insert into mooring.node (name, role_name) values ('host-new', ${b.name})`
  await sql`update mooring.setting set drain_max_moves = 7`
  for (const call of [
    `upsert_node('host-c', 200)`,
    `set_node_enabled('host-c', false)`,
    `forget_node('host-c')`,
    `drain_node('host-b')`,
    `undrain_node('host-b')`,
    'resume_reaping()',
    'explain(1)',
    'last_events(5)',
  ]) {
    await sql.unsafe(`select * from mooring.${call}`)
  }
  t.match(
    (await sql`select count(*)::int as n from mooring.placement`)[0],
    { n: 1 },
    'and is a viewer',
  )
  await attacked(t, pg, operator, [
    [
      'a policy whose function would run as the owner',
      '42501',
      (sql) =>
        sql`
          insert into mooring.policy (name, kind, cost_function, description)
          values ('evil', 'load', 'public.evil', 'x')`,
    ],
    [
      'a policy changed',
      '42501',
      (sql) => sql`update mooring.policy set cost_function = 'public.evil'`,
    ],
    [
      'what only an agent says of its node',
      '42501',
      (sql) => sql`update mooring.node set trusts = '.' where name = 'host-a'`,
    ],
    [
      'a renamed node',
      '42501',
      (sql) => sql`update mooring.node set name = 'host-x' where name = 'host-a'`,
    ],
    ['TRUNCATE', '42501', (sql) => sql`truncate mooring.deployment`],
  ])
})

t.test('a workload asks for its ownership, and for nothing else', async (t) => {
  const { pg, assignment } = await fleet(t)
  const [{ epoch } = { epoch: '0' }] = await assignments(pg.sql)
  const workload = await login(t, pg, ['mooring_workload'])
  await workload.sql`select mooring.assert_owner(${assignment}::bigint, ${epoch}::bigint)`
  await t.rejects(
    Promise.resolve(
      workload.sql`select mooring.assert_owner(${assignment}::bigint, ${epoch}::bigint + 1)`,
    ),
    { code: 'MR005' },
  )
})

t.test(
  'a role that owns the schema and is no superuser does everything, and acts for every node',
  async (t) => {
    const pg = await emptyDatabase(t)
    const owner = await login(t, pg)
    await pg.sql.unsafe(`grant create on database ${pg.name} to ${owner.name}`)
    t.match((await migrate({ databaseUrl: owner.url })).applied, [String])
    const { sql } = owner
    const session = randomUUID()
    await sql`select from mooring.register_node('host-a', ${session}, '.', '{npm,exec}')`
    const id = await deployment(sql, { env: { TOKEN: SECRET } })
    await sql`select from mooring.claim()`
    await sql`select from mooring.tick('worker-1')`
    await sql`select from mooring.tick('agent host-a', inline => true)`
    t.match(await sql`select h.owned from mooring.heartbeat('host-a', ${session}) h`, [
      { owned: 1 },
    ])
    t.match(await sql`select o.env from mooring.assignments_of('host-a', ${session}) o`, [
      { env: { TOKEN: SECRET } },
    ])
    t.match(await assignments(sql, id), [{ node: 'host-a' }])
    const agent = await login(t, pg, ['mooring_agent'])
    const theirs = randomUUID()
    await agent.sql`select from mooring.register_node('host-b', ${theirs}, '.')`
    await sql`select from mooring.heartbeat('host-b', ${theirs})`
    await attacked(t, pg, agent, [
      [
        "the owner's node",
        'MR009',
        (sql) => sql`select from mooring.heartbeat('host-a', ${session})`,
      ],
    ])
    await sql`select mooring.leave('host-a', ${session})`
    await pg.sql.unsafe(`drop owned by ${owner.name} cascade`)
  },
)

t.test(
  'advisory locks are open to all until they are revoked from PUBLIC, as docs/security.md says how',
  async (t) => {
    const { pg } = await fleet(t)
    const stranger = await login(t, pg)
    const take = () =>
      stranger.sql<{ taken: boolean }[]>`select pg_try_advisory_lock(1297043282, 1) as taken`
    t.match(await take(), [{ taken: true }], 'negative control: so placement can be held up')
    t.match(
      await pg.sql`
        select f.placement_lock_holder = s.pid as named
          from mooring.fleet f, pg_stat_activity s
         where s.datname = current_database() and s.usename = ${stranger.name}`,
      [{ named: true }],
      'and the view names the session that does it',
    )
    await stranger.sql`select pg_advisory_unlock_all()`
    const [, statement] =
      /```sql\n(do \$\$[\s\S]*?)```/.exec(
        readFileSync(join(ROOT, 'docs', 'security.md'), 'utf8'),
      ) ?? []
    const [{ owner } = { owner: '' }] = await pg.sql<
      { owner: string }[]
    >`select current_user::text as owner`
    await pg.sql.unsafe(statement!.replace('OWNER', owner))
    await t.rejects(Promise.resolve(take()), { code: '42501' })
    await deployment(pg.sql)
    t.equal((await pg.sql`select from mooring.claim()`).length, 1, 'verbs place as before')
  },
)
