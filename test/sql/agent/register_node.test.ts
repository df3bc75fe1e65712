import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import {
  age,
  assignments,
  beat,
  deployment,
  deployments,
  node,
  report,
} from '../../helpers/factories.js'
import { claim, events, patient, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const register = (
  sql: TransactionSql,
  name: string | null,
  session: string | null = randomUUID(),
  replaces: string | null = null,
) => sql`select * from mooring.register_node(${name}, ${session}, '.', replaces => ${replaces})`

story(
  'a first registration makes the node and answers with the intervals to live by',
  async (t, sql) => {
    const [answer] = await sql`
        select *
          from mooring.register_node(
            'host-a', ${randomUUID()}, '^http-server@', '{npm,exec}', '{"zone": "b"}', 7,
            'http://a:1', 'http://a:2', version => '0.1.0'
          )`
    const [row] = await sql`select * from mooring.node`
    t.match(answer, {
      node_id: row!.id,
      beat_interval_ms: 3000,
      lease_ttl_ms: 12_000,
      reap_margin_ms: 3000,
      channel: `mooring_node_${row!.id}`,
      schema_version: Number,
    })
    t.match(row, {
      name: 'host-a',
      enabled: true,
      weight: 100,
      trusts: '^http-server@',
      drivers: ['npm', 'exec'],
      labels: { zone: 'b' },
      max_assignments: 7,
      agent_base_url: 'http://a:1',
      gateway_base_url: 'http://a:2',
      version: '0.1.0',
    })
    const [health] = await sql`select health from mooring.node_status`
    t.same(health, { health: 'HEALTHY' })
    t.match(await events(sql, 'node_registered'), [
      { node: 'host-a', reason: 'its agent started', detail: { version: '0.1.0' } },
    ])
  },
)

story(
  'a node whose heartbeat row was lost gets it back when its agent registers',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await sql`update mooring.node set role_name = session_user`
    await sql`set local session_replication_role = replica`
    await sql`delete from mooring.heartbeat`
    await sql`set local session_replication_role = origin`
    // it used to look for the row for ever
    await sql`set local statement_timeout = '20 s'`
    const session = randomUUID()
    await register(sql, 'host-a', session)
    t.match((await beat(sql, { name: 'host-a', session })).hold, false)
    t.match(
      [
        ...(await sql`
        select h.node, h.role_name = n.role_name as bound
          from mooring.heartbeat h
          join mooring.node n on n.id = h.node_id`),
      ],
      [{ node: 'host-a', bound: true }],
    )
  },
)

story(
  'a registration of a known name, or a refused one, uses no identity: there are 2^31',
  async (t, sql) => {
    const { id } = await node(sql, { name: 'host-a' })
    const session = randomUUID()
    await sql`select mooring.leave('host-a', session) from mooring.heartbeat`
    for (let i = 0; i < 3; i++) await register(sql, 'host-a', session)
    for (let i = 0; i < 3; i++)
      await refused(t, sql, (sql) => register(sql, 'host-a'), { code: 'MR002' })
    for (let i = 0; i < 3; i++)
      await sql`select mooring.upsert_node('host-a', weight => ${100 + i})`
    t.equal((await node(sql, { name: 'host-b' })).id, id + 1)
  },
)

story('a heartbeat row ends with its node only', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => sql`delete from mooring.heartbeat`, {
    code: 'MR006',
    message: /heartbeat of node host-a/,
    hint: /forget_node\('host-a'\)/,
  })
  await sql`select mooring.leave('host-a', ${host.session})`
  await sql`select mooring.forget_node('host-a')`
  t.same([...(await sql`select from mooring.heartbeat`)], [])
})

story(
  'an agent reports at every registration how surely its workloads die with it',
  async (t, sql) => {
    const containment = async () =>
      (
        await sql`
          select s.containment, n.containment as stored
            from mooring.node_status s
            join mooring.node n on n.name = s.node`
      )[0]
    for (const level of ['pid-namespace', 'pdeathsig', 'process-group']) {
      await sql`delete from mooring.node`
      await sql`
        select from mooring.register_node('host-a', ${randomUUID()}, '.', containment => ${level})`
      t.same(await containment(), { containment: level, stored: level })
    }
    t.match((await events(sql, 'node_registered')).at(-1), {
      detail: { containment: 'process-group' },
    })
    await age(sql, 'host-a', '1 minute ago')
    await register(sql, 'host-a')
    t.same(
      await containment(),
      { containment: null, stored: null },
      'what the one before could do says nothing of this one',
    )
    for (const level of ['', 'docker', 'PDEATHSIG']) {
      await refused(
        t,
        sql,
        (sql) =>
          sql`
            select
              from mooring.register_node('host-b', ${randomUUID()}, '.', containment => ${level})`,
        {
          code: 'MR007',
          message: new RegExp(`'${level}' is no containment`),
          hint: /pid-namespace, pdeathsig, process-group/,
        },
        `'${level}'`,
      )
    }
    await refused(t, sql, (sql) => sql`update mooring.node set containment = 'docker'`, {
      code: '23514',
      constraint_name: 'node_containment_is_known',
    })
  },
)

story(
  'two agents of one name: the second hears in how many milliseconds the name is free',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: '5 seconds ago' })
    await refused(t, sql, (sql) => register(sql, 'host-a'), {
      code: 'MR002',
      detail: /^\{"free_in_ms" : ([5-9]\d\d\d|10000)\}$/,
      hint: /another name/i,
    })
  },
)

story('an assignment with a longer lease reserves the name for as long', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await deployment(sql, { lease_ttl: '1 min' })
  await claim(sql)
  await age(sql, 'host-a', '30 seconds ago')
  await refused(t, sql, (sql) => register(sql, 'host-a'), {
    code: 'MR002',
    detail: /"free_in_ms" : (2[3-9]\d\d\d|3[0-2]\d\d\d|33000)\}$/,
  })
})

story(
  'when the lease is over the name goes to the new session, with the work the node still owns',
  async (t, sql) => {
    const old = await node(sql, { name: 'host-a' })
    await deployments(sql, 2)
    await claim(sql)
    await age(sql, 'host-a', '15.1 seconds ago')
    const session = randomUUID()
    await register(sql, 'host-a', session)
    t.equal((await beat(sql, { name: 'host-a', session })).owned, 2)
    t.same(
      (await assignments(sql)).map(({ epoch }) => epoch),
      ['1', '1'],
    )
    await refused(t, sql, (sql) => beat(sql, old), { code: 'MR001' })
  },
)

story('a session may take over the live one that it names, and only that one', async (t, sql) => {
  const old = await node(sql, { name: 'host-a' })
  await refused(
    t,
    sql,
    (sql) => register(sql, 'host-a', randomUUID(), randomUUID()),
    { code: 'MR002' },
    'a guess',
  )
  await register(sql, 'host-a', randomUUID(), old.session)
  await refused(t, sql, (sql) => beat(sql, old), { code: 'MR001' })
  t.match((await events(sql, 'node_registered')).at(-1), { reason: 'its agent was replaced' })
})

story('the same session may register again, and one that left is free at once', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await register(sql, 'host-a', host.session)
  await beat(sql, host)
  await sql`select mooring.leave('host-a', ${host.session})`
  await register(sql, 'host-a')
  t.pass()
})

story(
  'what the agent says of itself is stored as said, what operators edit too only when given',
  async (t, sql) => {
    await sql`
      select
        from mooring.register_node(
          'host-a', ${randomUUID()}, '^a@', '{npm,exec}', '{"zone": "b"}', 7, 'http://a:1',
          'http://a:2', version => '1'
        )`
    await sql`
      update mooring.node
         set labels = '{"zone": "c"}', max_assignments = 9, enabled = false, weight = 5`
    await age(sql, 'host-a', '1 minute ago')
    await sql`select from mooring.register_node('host-a', ${randomUUID()})`
    const [row] = await sql`
        select trusts, drivers, version, labels, max_assignments, agent_base_url, gateway_base_url,
               enabled, weight
          from mooring.node`
    t.same(row, {
      trusts: null,
      drivers: ['npm'],
      version: null,
      labels: { zone: 'c' },
      max_assignments: 9,
      agent_base_url: 'http://a:1',
      gateway_base_url: 'http://a:2',
      enabled: false,
      weight: 5,
    })
    await age(sql, 'host-a', '1 minute ago')
    await sql`
      select
        from mooring.register_node('host-a', ${randomUUID()}, labels => '{}', max_assignments => 1)`
    const [given] = await sql`select labels, max_assignments from mooring.node`
    t.same(given, { labels: {}, max_assignments: 1 })
  },
)

story('bad values are refused, each by its own rule', async (t, sql) => {
  for (const name of [
    '',
    '-a',
    '.a',
    'a b',
    'a/b',
    "a'b",
    'a\nb',
    'hôst',
    'а',
    'a'.repeat(64),
    null,
  ]) {
    await refused(
      t,
      sql,
      (sql) => register(sql, name),
      { code: 'MR007', hint: /63 letters/ },
      JSON.stringify(name),
    )
  }
  await refused(t, sql, (sql) => register(sql, 'host-a', null), { code: 'MR007' }, 'no session')
  await refused(
    t,
    sql,
    (sql) => sql`select mooring.register_node('host-a', ${randomUUID()}, '(')`,
    { code: 'MR007', message: /trust pattern '\(' cannot be used/ },
    'a pattern',
  )
  await refused(
    t,
    sql,
    (sql) => sql`select mooring.register_node('host-a', ${randomUUID()}, drivers => '{docker}')`,
    { code: '23514', constraint_name: 'node_drivers_are_known' },
    'drivers',
  )
  await refused(
    t,
    sql,
    (sql) => sql`select mooring.register_node('host-a', ${randomUUID()}, labels => '[]')`,
    { code: '23514', constraint_name: 'node_labels_are_an_object' },
    'labels',
  )
  await refused(
    t,
    sql,
    (sql) => sql`select mooring.register_node('host-a', ${randomUUID()}, max_assignments => -1)`,
    { code: '23514', constraint_name: 'node_max_assignments_is_not_negative' },
    'limit',
  )
  t.same([...(await sql`select name from mooring.node`)], [], 'and no row is left')
})

story('a registration asks for a place job', async (t, sql) => {
  await register(sql, 'host-a')
  const [jobs] =
    await sql`select count(*)::int as n from mooring_jobs.jobs where task_identifier = 'place'`
  t.same(jobs, { n: 1 })
})

void t.test(
  'two first registrations of one name at once: one gets it, the other waits for the answer',
  async (t) => {
    const pg = await testDatabase(t)
    await patient(pg.sql)
    const [first, second] = [pg.client(), pg.client()]
    await first`begin`
    await node(first, { name: 'host-a' })
    const answer = node(second, { name: 'host-a' }).then(
      () => 'registered',
      (error: { code: string }) => error.code,
    )
    await first`commit`
    t.equal(await answer, 'MR002')
  },
)

story('what a node refused is offered again when its agent says other things', async (t, sql) => {
  const host = await node(sql, { name: 'host-a', trusts: '.' })
  const [id] = await deployments(sql, 1)
  await claim(sql)
  const [row] = await assignments(sql, id)
  await report(sql, host, row!, 'refused')
  await sql`select from mooring.register_node('host-a', ${host.session}, '.', '{npm,exec}')`
  t.same(await claim(sql), [], 'the same agent would refuse again')
  await sql`select from mooring.register_node('host-a', ${host.session}, '^http-server@')`
  t.equal((await claim(sql)).length, 1)
})
