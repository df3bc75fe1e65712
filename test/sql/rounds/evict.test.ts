import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { assignments, deployment, deployments, node, report } from '../../helpers/factories.js'
import type { DeploymentSpec, NodeSpec } from '../../helpers/factories.js'
import { claim, events, loads, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** One assignment that runs on host-a; host-b is there to take it. */
async function running(
  sql: TransactionSql,
  spec: DeploymentSpec = {},
  here: NodeSpec = {},
  there: NodeSpec = {},
) {
  const host = await node(sql, { name: 'host-a', ...here })
  const id = await deployment(sql, spec)
  await claim(sql)
  await node(sql, { name: 'host-b', ...there })
  return { host, id, row: async () => (await assignments(sql, id))[0]! }
}

const reasons: [
  name: string,
  reason: RegExp,
  spec: DeploymentSpec,
  here: NodeSpec,
  there: NodeSpec,
  edit: (sql: TransactionSql) => Promise<unknown>,
][] = [
  [
    'the selector was changed',
    /labels/,
    {},
    {},
    { labels: { ssd: true } },
    (sql) => sql`update mooring.deployment set selector = '{"ssd": true}'`,
  ],
  [
    'the pin was changed',
    /pinned/,
    { pinned_node: 'host-a' },
    {},
    {},
    (sql) => sql`update mooring.deployment set pinned_node = 'host-b'`,
  ],
  [
    'the node lost a label',
    /labels/,
    { selector: { ssd: true } },
    { labels: { ssd: true } },
    { labels: { ssd: true } },
    (sql) => sql`update mooring.node set labels = '{}' where name = 'host-a'`,
  ],
  [
    'the node trusts less',
    /trust/,
    {},
    {},
    {},
    (sql) => sql`update mooring.node set trusts = '^@acme/' where name = 'host-a'`,
  ],
  [
    'the package became another one',
    /trust/,
    {},
    { trusts: '^http-server@' },
    {},
    (sql) => sql`update mooring.deployment set package_name = 'serve'`,
  ],
  [
    'the node lost a driver',
    /--allow-exec/,
    { command: 'sleep' },
    {},
    {},
    (sql) => sql`update mooring.node set drivers = '{npm}' where name = 'host-a'`,
  ],
  [
    'it asks for URLs now',
    /URLs/,
    {},
    {},
    { agent_base_url: 'http://b:1', gateway_base_url: 'http://b:2' },
    (sql) => sql`update mooring.deployment set needs_urls = true`,
  ],
]

for (const [name, reason, spec, here, there, edit] of reasons) {
  story(`what runs is stopped and then placed elsewhere when ${name}`, async (t, sql) => {
    const { host, row } = await running(sql, spec, here, there)
    await edit(sql)
    t.match(await row(), { node: 'host-a', wanted: 'stop', epoch: '1', stop_reason: reason })
    t.match(await events(sql, 'stop_wanted'), [{ node: 'host-a', epoch: '1', reason }])
    t.same(await claim(sql), [], 'not before the owner stopped it')
    t.equal(await report(sql, host, await row(), 'stopped'), true)
    t.equal((await claim(sql)).length, 1)
    t.match(await row(), { node: 'host-b', wanted: 'run', epoch: '3', stop_reason: null })
  })
}

story('an edit that changes nothing about where it may run moves nothing', async (t, sql) => {
  const { row } = await running(sql)
  await sql`
    update mooring.deployment
       set env = '{"A": "1"}',
           args = '["x"]',
           labels = '{"team": "a"}',
           name = 'site',
           package_version = '14.1.2',
           stop_grace = '1 s',
           on_lost = 'keep'`
  await sql`
    update mooring.node
       set labels = '{"ssd": true}',
           weight = 1,
           max_assignments = 0,
           enabled = false,
           draining_since = now()
     where name = 'host-a'`
  await sql`select from mooring.evict()`
  t.match(await row(), { node: 'host-a', wanted: 'run', epoch: '1' })
})

story(
  'an edit that is undone while the owner stops still ends this epoch first',
  async (t, sql) => {
    const { host, row } = await running(sql, { selector: { ssd: true } }, { labels: { ssd: true } })
    await sql`update mooring.node set labels = '{}' where name = 'host-a'`
    await sql`update mooring.node set labels = '{"ssd": true}' where name = 'host-a'`
    t.match(await row(), { wanted: 'stop', epoch: '1' })
    await report(sql, host, await row(), 'stopped')
    await claim(sql)
    t.match(await row(), { node: 'host-a', wanted: 'run', epoch: '3' })
  },
)

story('only the edited ones are stopped, of many that look alike', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  const ids = await deployments(sql, 5)
  await claim(sql)
  await sql`update mooring.deployment set pinned_node = 'host-b' where id = any(${ids.slice(0, 2)})`
  t.same(
    (await assignments(sql)).map(({ wanted }) => wanted),
    ['stop', 'stop', 'run', 'run', 'run'],
  )
})

story(
  'the round finds what a trigger could not see: work that was claimed while the edit was open',
  async (t, sql) => {
    const { row } = await running(sql)
    await sql`alter table mooring.node disable trigger tg_node__change`
    await sql`update mooring.node set trusts = null where name = 'host-a'`
    t.match(await row(), { wanted: 'run' })
    const stopped = await sql`select id, wanted from mooring.evict()`
    t.match(stopped, [{ wanted: 'stop' }])
    t.same([...(await sql`select id from mooring.evict()`)], [], 'once')
  },
)

story('stopping is no loss of load: the node still has it until it is gone', async (t, sql) => {
  await running(sql)
  await sql`update mooring.deployment set pinned_node = 'host-b'`
  t.same(await loads(sql), { 'host-a': 1, 'host-b': 0 })
  const rows = await sql`
      select n.name, coalesce(l.assigned, 0) as n
        from mooring.node n
        left join mooring_internal.assigned_per_node() l on l.node_id = n.id
       order by n.name`
  t.same(
    [...rows],
    [
      { name: 'host-a', n: 1 },
      { name: 'host-b', n: 0 },
    ],
  )
})
