import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, node } from '../../helpers/factories.js'
import type { DeploymentSpec } from '../../helpers/factories.js'
import { claim, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Places it; the node it went to, or null. */
async function place(sql: TransactionSql, spec: DeploymentSpec): Promise<string | null> {
  const id = await deployment(sql, spec)
  await claim(sql)
  return (await assignments(sql, id))[0]!.node
}

async function verdict(sql: TransactionSql, id: string, name: string) {
  const [row] = await sql<{ permitted: boolean; eligible: boolean }[]>`
    select e.permitted, e.eligible
      from mooring_internal.eligibility(array[${id}::bigint]) e
      join mooring.node n on n.id = e.node_id
     where n.name = ${name}`
  return { ...row }
}

story('a selector has to be contained in the labels of the node', async (t, sql) => {
  await node(sql, { name: 'host-a', labels: { disk: 'hdd' } })
  await node(sql, { name: 'host-b', labels: { disk: 'ssd', zone: { row: 1, rack: [1, 2] } } })
  t.equal(await place(sql, { selector: { disk: 'ssd' } }), 'host-b')
  t.equal(await place(sql, { selector: { zone: { rack: [2] } } }), 'host-b', 'deep containment')
  t.equal(await place(sql, { selector: { disk: 'ssd', zone: { row: 2 } } }), null)
  t.equal(await place(sql, { selector: { disk: null } }), null)
})

story('labels are compared as texts, whoever wrote them', async (t, sql) => {
  await node(sql, { name: 'agent', labels: { gpu: 'true', cores: '8' } })
  await node(sql, { name: 'psql', labels: { ssd: true, rack: 7 } })
  t.equal(await place(sql, { selector: { gpu: true, cores: 8 } }), 'agent', 'as YAML writes it')
  t.equal(await place(sql, { selector: { gpu: 'true' } }), 'agent')
  t.equal(await place(sql, { selector: { ssd: 'true', rack: '7' } }), 'psql')
  t.equal(await place(sql, { selector: { ssd: true } }), 'psql')
  t.equal(await place(sql, { selector: { gpu: false } }), null)
  const id = await deployment(sql, { selector: { gpu: true, ssd: true } })
  const [row] = await sql<{ reason: string }[]>`
    select u.reason from mooring.unplaced u where u.deployment_id = ${id}::bigint`
  t.match(row!.reason, /agent lacks \{"ssd": true\}/, 'what is equal as text is not lacking')
})

story('a pin names the only node, for any loads', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  for (let n = 0; n < 3; n++) t.equal(await place(sql, { pinned_node: 'host-b' }), 'host-b')
  t.equal(await place(sql, { pinned_node: 'host-z' }), null, 'a node that does not exist')
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 3 })
})

story('only a node whose pattern matches name@version gets a package', async (t, sql) => {
  await node(sql, { name: 'host-a', trusts: '^http-server@14[.]' })
  await node(sql, { name: 'host-b', trusts: '^@acme/' })
  await node(sql, { name: 'host-c', trusts: null })
  t.equal(await place(sql, { package_name: 'http-server', package_version: '14.1.1' }), 'host-a')
  t.equal(await place(sql, { package_name: 'http-server', package_version: '13.0.0' }), null)
  t.equal(await place(sql, { package_name: '@acme/site' }), 'host-b')
  t.equal(
    await place(sql, { package_name: 'left-pad' }),
    null,
    'a node without a pattern trusts nothing',
  )
})

story('a custom command needs a node with driver exec, a package one with npm', async (t, sql) => {
  await node(sql, { name: 'npm-only', drivers: ['npm'], trusts: '.' })
  await node(sql, { name: 'exec-only', drivers: ['exec'], trusts: '.' })
  t.equal(await place(sql, { command: 'sleep', package_name: null }), 'exec-only')
  t.equal(await place(sql, { package_name: 'left-pad' }), 'npm-only')
  t.equal(
    await place(sql, { package_name: 'left-pad', command: 'node' }),
    null,
    'a command inside a package needs both',
  )
  await node(sql, { name: 'both' })
  await claim(sql)
  t.same((await loads(sql))['both'], 1)
})

story('D8: needs_urls asks for both base URLs', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b', agent_base_url: 'http://host-b:1' })
  t.equal(await place(sql, { needs_urls: true }), null)
  await node(sql, {
    name: 'host-c',
    agent_base_url: 'http://host-c:1',
    gateway_base_url: 'http://host-c:2',
  })
  t.equal(await place(sql, { needs_urls: true }), 'host-c')
})

story('max_assignments is a limit, zero included, and daemons are not counted', async (t, sql) => {
  await deployment(sql, { type: 'daemon' })
  await node(sql, { name: 'host-a', max_assignments: 2 })
  await node(sql, { name: 'host-b', max_assignments: 0 })
  await sql`
    insert into mooring.deployment (package_name) select 'http-server' from generate_series(1, 5)`
  t.equal((await claim(sql)).length, 2)
  t.same(await loads(sql), { 'host-a': 2, 'host-b': 0 })
  t.same(await claim(sql), [], 'and again nothing')
})

story('a disabled node keeps what it has and gets nothing new', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const id = await deployment(sql)
  await claim(sql)
  await sql`update mooring.node set enabled = false where name = 'host-a'`
  t.equal(await place(sql, {}), null)
  t.match((await assignments(sql, id))[0], { node: 'host-a', wanted: 'run' })
  t.same(await verdict(sql, id, 'host-a'), { permitted: true, eligible: false })
})

story('a draining node gets nothing new', async (t, sql) => {
  await node(sql, { name: 'host-a', draining: true })
  t.equal(await place(sql, {}), null)
})

story('a node whose lease has ended by the database clock gets nothing', async (t, sql) => {
  await node(sql, { name: 'host-a', seen: '13 seconds ago' })
  await node(sql, { name: 'host-b', seen: 'never' })
  t.equal(await place(sql, {}), null)
  await node(sql, { name: 'host-c', seen: '5 seconds ago' })
  t.equal(await place(sql, {}), 'host-c', 'its lease runs')
})

story(
  'a node with too little free disk gets nothing new, one that never reported its disk does',
  async (t, sql) => {
    await node(sql, { name: 'host-a', sample: { disk_free_pct: 14.9 } })
    t.equal(await place(sql, {}), null)
    await node(sql, { name: 'host-b', sample: { disk_free_pct: 15 } })
    t.equal(await place(sql, { selector: {} }), 'host-b', 'the floor itself is enough')
    await node(sql, { name: 'host-c' })
    t.equal(await place(sql, { pinned_node: 'host-c' }), 'host-c')
    await sql`update mooring.setting set disk_free_min_pct = 10`
    t.equal(await place(sql, { pinned_node: 'host-a' }), 'host-a', 'the floor is a setting')
  },
)

story(
  'permitted looks at what must hold all the time, eligible also at what new work needs',
  async (t, sql) => {
    const id = await deployment(sql, { selector: { ssd: true } })
    await node(sql, { name: 'host-a', labels: { ssd: true }, seen: '1 minute ago' })
    await node(sql, { name: 'host-b' })
    t.same(await verdict(sql, id, 'host-a'), { permitted: true, eligible: false })
    t.same(await verdict(sql, id, 'host-b'), { permitted: false, eligible: false })
  },
)

story('deployments that are alike for every node are evaluated once', async (t, sql) => {
  await node(sql, { trusts: '^@acme/' })
  await node(sql, { trusts: '^http-server@' })
  await sql`
    insert into mooring.deployment (package_name)
    select '@acme/p' || i
      from generate_series(1, 200) i`
  await sql`
    insert into mooring.deployment (package_name)
    select 'other-' || i
      from generate_series(1, 200) i`
  await deployment(sql)
  const [row] = await sql`
      select count(distinct representative)::int as groups, count(*)::int as deployments
        from mooring_internal.eligibility_groups(array(select id from mooring.deployment))`
  t.same(row, { groups: 3, deployments: 401 })
})
