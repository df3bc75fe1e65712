import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node } from '../../helpers/factories.js'
import { claim, events, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const forget = (sql: Parameters<Parameters<typeof story>[1]>[1], name: string) =>
  sql`select from mooring.forget_node(${name})`

story(
  'a node that left is forgotten, its heartbeat and its daemons with it; history keeps its name',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const daemon = await deployment(sql, { type: 'daemon' })
    await sql`select mooring.leave('host-a', ${host.session})`
    await forget(sql, 'host-a')
    t.same([...(await sql`select node from mooring.node_status`)], [])
    t.same([...(await sql`select node from mooring.heartbeat`)], [])
    t.same(await assignments(sql, daemon), [])
    t.match(await events(sql, 'node_forgotten'), [{ node: 'host-a' }])
  },
)

story('a live node is not forgotten, and neither is one that owns work', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => forget(sql, 'host-a'), {
    code: 'MR006',
    message: /is live/,
    hint: /Stop its agent/,
  })
  await deployments(sql, 2)
  await claim(sql)
  await refused(t, sql, (sql) => forget(sql, 'host-a'), {
    code: 'MR006',
    message: /is live/,
    hint: /drain_node\('host-a'\)/,
  })
  await age(sql, 'host-a', '14 seconds ago')
  await refused(t, sql, (sql) => forget(sql, 'host-a'), {
    code: 'MR006',
    message: /owns 2 assignments/,
    hint: /lease/,
  })
  await age(sql, 'host-a', '1 minute ago')
  await sql`select from mooring.reap()`
  await forget(sql, 'host-a')
  t.same(
    (await assignments(sql)).map(({ node }) => node),
    [null, null],
  )
})

story('an unknown name is an error', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => forget(sql, 'host_a'), { code: 'MR003', hint: /host-a/ })
})
