import t from 'tap'
import { testDatabase } from '../helpers/postgres.js'
import { age, assignments, beat, deployment, deployments, node } from '../helpers/factories.js'
import { claim, events, loads, refused, storiesIn } from './story.js'

// Behaviour of the two systems this one replaces that has to be here as well, by the number of its
// row in docs/compared.md.

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('Y1: one insert..select is all a user does', async (t, sql) => {
  await sql`set local search_path = public, mooring`
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await sql`
    insert into deployment (package_name, package_version, enabled)
    select 'http-server', '14.1.1', true
      from generate_series(1, 21)`
  await sql`select from mooring.tick('worker', inline => true)`
  t.same(await loads(sql), { 'host-a': 11, 'host-b': 10 })
  t.match(await sql`select deployments, assignments, assigned, waiting from fleet`, [
    { deployments: 21, assignments: 21, assigned: 21, waiting: 0 },
  ])
})

story(
  'Y9: deployment_count counts assigned work only: no daemons, nothing pending, nothing lost',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await sql`
      insert into mooring.deployment (package_name, pinned_node)
      select 'http-server', 'host-a'
        from generate_series(1, 4)`
    await claim(sql)
    await age(sql, 'host-a', '1 minute ago')
    await sql`select from mooring.reap()` // four lost
    await sql`update mooring.deployment set pinned_node = 'nowhere'` // and waiting
    await sql`delete from mooring.node` // it comes back new
    await node(sql, { name: 'host-a' })
    await sql`
      insert into mooring.deployment (package_name, type, pinned_node)
      select 'http-server', 'daemon', 'host-a'
        from generate_series(1, 3)`
    await node(sql, { name: 'host-b' })
    await deployments(sql, 6)
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 3, 'host-b': 3 })
  },
)

story(
  'Y10: resource_usage is cpu_percent * wc + memory_gib * wm, weights normalised, half by default',
  async (t, sql) => {
    await node(sql, { name: 'host-a', sample: { cpu_pct: 20, memory_mb: 4096 } })
    const id = await deployment(sql, { policy: 'resource_usage' })
    const cost = async () =>
      (await sql`select cost - 1 as cost from mooring.explain(${id})`)[0]!.cost
    t.equal(await cost(), 12)
    await sql`update mooring.setting set cpu_weight = 6, memory_weight = 2`
    t.equal(await cost(), 16)
    await sql`update mooring.setting set cpu_weight = 0, memory_weight = 1e-3`
    t.equal(await cost(), 4, 'only their ratio counts')
    for (const wrong of ['NaN', 'Infinity', '-1', '1e308'])
      await refused(
        t,
        sql,
        (sql) => sql`update mooring.setting set cpu_weight = ${wrong}::float8`,
        { code: '23514', constraint_name: 'setting_cpu_weight_is_between_0_and_a_million' },
        `${wrong} is refused where it is written`,
      )
    await refused(
      t,
      sql,
      (sql) => sql`update mooring.setting set cpu_weight = 0, memory_weight = 0`,
      { code: '23514', constraint_name: 'setting_some_weight_is_positive' },
      'two of nothing too',
    )
    await refused(
      t,
      sql,
      (sql) => sql`update mooring.setting set memory_weight = null`,
      { code: '23502' },
      'and none at all',
    )
    t.equal(await cost(), 4, 'and the last good ones stay in force')
  },
)

story(
  'Y11: with policy none nothing is placed on any path, and everything else runs on',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const running = await deployment(sql)
    await claim(sql)
    await sql`update mooring.setting set default_policy = 'none'`
    await deployments(sql, 3)
    await sql`update mooring.deployment set replicas = 2 where id = ${running}`
    t.same(await claim(sql), [])
    await sql`update mooring_internal.round set due_at = '-infinity'`
    await sql`select from mooring.tick('worker', inline => true)`
    t.same(await loads(sql), { 'host-a': 1 })
    t.match(await assignments(sql, running), [{ node: 'host-a', wanted: 'run' }, { node: null }])
  },
)

story(
  'Y14: the queue is updated_at, created_at, id; a lost row keeps its place before younger work',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const [lostLater, lostSooner] = [
      await deployment(sql, { updated_at: '2026-01-06Z' }),
      await deployment(sql, { updated_at: '2026-01-05Z' }),
    ]
    await claim(sql)
    await sql`update mooring.node set enabled = false`
    const fresh = [
      await deployment(sql, { updated_at: '2026-02-01Z', created_at: '2026-01-02Z' }),
      await deployment(sql, { updated_at: '2026-02-01Z', created_at: '2026-01-01Z' }),
      await deployment(sql, { updated_at: '2026-02-01Z', created_at: '2026-01-01Z' }),
    ]
    await age(sql, 'host-a', '1 minute ago')
    await sql`select from mooring.reap()`
    await node(sql, { name: 'host-b' })
    await claim(sql)
    t.same(
      (await events(sql, 'claimed')).slice(2).map(({ deployment_id }) => deployment_id),
      [lostSooner, lostLater, fresh[1], fresh[2], fresh[0]],
    )
  },
)

void t.test(
  'Y16-17: a claim is compare-and-set: eight at once place each row once, and rob no live node',
  async (t) => {
    const { sql, client } = await testDatabase(t)
    for (let n = 0; n < 3; n++) await node(sql)
    await deployments(sql, 30)
    const first = await claim(sql)
    await deployments(sql, 60)
    const claimed = (await Promise.all(Array.from({ length: 8 }, () => claim(client())))).flat()
    t.equal(new Set([...first, ...claimed]).size, 90)
    t.equal(claimed.length, 60, 'none twice')
    t.same(new Set(Object.values(await loads(sql))), new Set([30]), 'and the balance is exact')
    t.ok((await assignments(sql)).every(({ epoch }) => epoch === '1'))
  },
)

story(
  'Y20: a daemon is one instance on every node, never claimed, not counted, not failed over',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const id = await deployment(sql, { type: 'daemon' })
    await node(sql, { name: 'host-b' })
    t.same(
      (await assignments(sql, id)).map(({ node, ordinal }) => [node, ordinal]),
      [
        ['host-a', null],
        ['host-b', null],
      ],
    )
    t.same(await claim(sql), [])
    await age(sql, 'host-b', '1 hour ago')
    t.same([...(await sql`select * from mooring.reap()`)], [])
    t.same(
      (await assignments(sql, id)).map(({ node }) => node),
      ['host-a', 'host-b'],
    )
  },
)

story('Y21: an unknown type is refused by a constraint', async (t, sql) => {
  await refused(t, sql, (sql) => deployment(sql, { type: 'cron' }), {
    code: '23514',
    constraint_name: 'deployment_type_is_deployment_or_daemon',
  })
})

story(
  'D1: registration and beats keep one row per name: URLs, disk, count; no figures erase none',
  async (t, sql) => {
    const host = await node(sql, {
      name: 'host-a',
      agent_base_url: 'http://a',
      gateway_base_url: 'http://g',
      sample: { disk_free_pct: 40, disk_free_bytes: 4e9, running: 3 },
    })
    await beat(sql, host)
    t.match(
      await sql`
        select node, agent_base_url, gateway_base_url, disk_free_pct,
               disk_free_bytes::float8 as disk_free_bytes, beat_age < interval '1 minute' as fresh
          from mooring.node_status`,
      [
        {
          node: 'host-a',
          agent_base_url: 'http://a',
          gateway_base_url: 'http://g',
          disk_free_pct: 40,
          disk_free_bytes: 4e9,
          fresh: true,
        },
      ],
    )
    await sql`update mooring.node set enabled = false`
    await beat(sql, host)
    t.match(
      await sql`select enabled from mooring.node_status`,
      [{ enabled: false }],
      'defect 13: a beat undoes no edit of an operator',
    )
  },
)

story(
  'D5: fresh until the lease that the last beat was answered with is over, and only then stale',
  async (t, sql) => {
    await node(sql, { name: 'host-a', seen: '-5 s' })
    await node(sql, { name: 'host-b', seen: '-13 s' })
    t.match(await sql`select node, health from mooring.node_status order by node`, [
      { node: 'host-a', health: 'HEALTHY' },
      { node: 'host-b', health: 'STALE' },
    ])
  },
)

story(
  'D11, D14: each node is UNKNOWN, STALE, UNHEALTHY, LOW_DISK, DRAINING, DISABLED or HEALTHY',
  async (t, sql) => {
    await node(sql, { name: 'a-unknown', seen: 'never' })
    await node(sql, { name: 'b-stale', seen: '-1 minute' })
    await node(sql, { name: 'c-full', sample: { disk_free_pct: 14.9 } })
    await node(sql, { name: 'd-filling', sample: { disk_free_pct: 24.9 } })
    await node(sql, { name: 'e-draining' })
    await sql`select from mooring.drain_node('e-draining')`
    await node(sql, { name: 'f-disabled' })
    await sql`select from mooring.set_node_enabled('f-disabled', false)`
    await node(sql, { name: 'g-healthy', sample: { disk_free_pct: 25 } })
    const rows = await sql<
      { node: string; health: string }[]
    >`select node, health from mooring.node_status order by node`
    t.same(
      rows.map(({ health }) => health),
      ['UNKNOWN', 'STALE', 'UNHEALTHY', 'LOW_DISK', 'DRAINING', 'DISABLED', 'HEALTHY'],
    )
    await deployments(sql, 4)
    await claim(sql)
    t.same(
      await loads(sql),
      {
        'a-unknown': 0,
        'b-stale': 0,
        'c-full': 0,
        'd-filling': 2,
        'e-draining': 0,
        'f-disabled': 0,
        'g-healthy': 2,
      },
      'what fills up is labelled, and still takes work above the floor',
    )
  },
)
