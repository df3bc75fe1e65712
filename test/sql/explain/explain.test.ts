import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import { claim, pattern, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const explain = async (sql: TransactionSql, id: string) => [
  ...(await sql<
    {
      node: string
      verdict: string
      cost: number | null
      assigned: number
      here: number
      permitted: boolean
      eligible: boolean
    }[]
  >`select * from mooring.explain(${id})`),
]

story(
  'one row per node, the cheapest eligible one first, and it is the one that the claim takes',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b', weight: 400 })
    await node(sql, { name: 'host-c' })
    await deployments(sql, 7)
    await claim(sql)
    const id = await deployment(sql)
    const rows = await explain(sql, id)
    t.match(rows, [
      {
        node: 'host-b',
        verdict: 'next: cheapest by deployment_count',
        permitted: true,
        eligible: true,
        assigned: 5,
        here: 0,
        cost: 1.5,
      },
      { node: 'host-a', verdict: 'could run here', cost: 2 },
      { node: 'host-c', verdict: 'could run here', cost: 2 },
    ])
    await claim(sql)
    t.equal((await assignments(sql, id))[0]!.node, 'host-b')
    t.match(
      (await explain(sql, id)).find(({ node }) => node === 'host-b'),
      { verdict: 'runs here', here: 1 },
    )
  },
)

story('Y logs: a no names its rule', async (t, sql) => {
  const id = await deployment(sql, {
    package_name: 'left-pad',
    selector: { ssd: true },
    needs_urls: true,
  })
  const fit = {
    labels: { ssd: true },
    agent_base_url: 'http://x:1',
    gateway_base_url: 'http://x:2',
  }
  await node(sql, { name: 'd1-selector' })
  await node(sql, { ...fit, name: 'd2-driver', drivers: ['exec'] })
  await node(sql, { ...fit, name: 'd3-trust', trusts: '^@acme/' })
  await node(sql, { labels: fit.labels, name: 'd4-urls' })
  await node(sql, { ...fit, name: 'd5-dead', seen: '1 hour ago' })
  await node(sql, { ...fit, name: 'd6-off', enabled: false })
  await node(sql, { ...fit, name: 'd7-draining', draining: true })
  await node(sql, { ...fit, name: 'd8-full', max_assignments: 0 })
  await node(sql, { ...fit, name: 'd9-disk', sample: { disk_free_pct: 3 } })
  const verdicts = (await explain(sql, id)).map(({ node, verdict }) => `${node}: ${verdict}`).sort()
  t.match(verdicts, [
    pattern(
      /^d1-selector: no: the node lacks labels of the selector: \{"ssd": true\}; /,
      /label it with upsert_node\('d1-selector', labels => '\{"ssd": true\}'\), or /,
      /change the selector$/,
    ),
    pattern(
      /^d2-driver: no: the node does not run this kind of work \(.*\): start an /,
      /agent there that has the driver npm$/,
    ),
    pattern(
      /^d3-trust: no: the node does not trust the package: left-pad@latest, it /,
      /trusts \^@acme\/; start its agent with a wider --trust$/,
    ),
    pattern(
      /^d4-urls: no: the node does not have both base URLs: agent_base_url and /,
      /gateway_base_url; give them with upsert_node\('d4-urls', ...\)$/,
    ),
    /^d5-dead: no: the node is not live: no beat for 01:00:\d\d; start its agent$/,
    /^d6-off: no: the node is disabled: set_node_enabled\('d6-off', true\)$/,
    pattern(
      /^d7-draining: no: the node is draining or its agent is stopping: /,
      /undrain_node\('d7-draining'\)$/,
    ),
    pattern(
      /^d8-full: no: the node has max_assignments already: 0; raise it with /,
      /upsert_node\('d8-full', max_assignments => 1\)$/,
    ),
    pattern(
      /^d9-disk: no: the node has too little free disk: 3.0 %, and 15 % are needed; /,
      /free some, or lower setting.disk_free_min_pct$/,
    ),
  ])
  await sql`update mooring.deployment set pinned_node = 'd5-dead'`
  t.equal(
    (await explain(sql, id)).filter(
      ({ verdict }) =>
        verdict === 'no: it is pinned to another node: d5-dead; change pinned_node to have it here',
    ).length,
    8,
  )
  await sql`update mooring.deployment set pinned_node = null, command = 'sleep'`
  await node(sql, { ...fit, name: 'd2-npm', drivers: ['npm'] })
  t.match(
    (await explain(sql, id)).find(({ node }) => node === 'd2-npm')?.verdict,
    /: start its agent with --allow-exec$/,
  )
})

story('a node whose agent refused the assignment says so', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const id = await deployment(sql)
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'refused')
  t.match(await explain(sql, id), [
    { node: 'host-b', verdict: /^next/ },
    { node: 'host-a', verdict: /^no: its agent refused it, or it failed there: see last_error/ },
  ])
})

story(
  'what runs stays, also where nothing new would go, and a disabled deployment goes nowhere',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    const id = await deployment(sql)
    await claim(sql)
    await sql`update mooring.node set enabled = false`
    t.match(await explain(sql, id), [
      { verdict: `runs here; nothing new: the node is disabled: set_node_enabled('host-a', true)` },
    ])
    await node(sql, { name: 'host-b' })
    t.match(await explain(sql, await deployment(sql, { enabled: false })), [
      {
        node: 'host-b',
        verdict: pattern(
          /^no: the deployment is disabled: update mooring.deployment set enabled = true /,
          /where id = \d+$/,
        ),
      },
      {},
    ])
  },
)

story('with policy none nobody is next', async (t, sql) => {
  await node(sql)
  t.match(await explain(sql, await deployment(sql, { policy: 'none' })), [
    {
      verdict:
        'no: policy none places nothing by itself: reassign() it here, or choose another policy',
      cost: null,
    },
  ])
})

story(
  'with resource_usage the cost is of cpu and memory, and an unknown one comes last',
  async (t, sql) => {
    await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b', sample: { cpu_pct: 10, memory_mb: 2048 } })
    t.match(await explain(sql, await deployment(sql, { policy: 'resource_usage' })), [
      { node: 'host-b', cost: 7 },
      { node: 'host-a', cost: null },
    ])
  },
)

story('an id that is not there names the nearest ones', async (t, sql) => {
  await refused(t, sql, (sql) => explain(sql, '5'), { code: 'MR003', hint: /insert one/ })
  const id = await deployment(sql)
  await refused(t, sql, (sql) => explain(sql, String(Number(id) + 5)), {
    code: 'MR003',
    hint: new RegExp(id),
  })
})
