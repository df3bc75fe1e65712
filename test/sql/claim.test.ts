import t from 'tap'
import { testDatabase } from '../helpers/postgres.js'
import { assignments, deployment, deployments, node } from '../helpers/factories.js'
import { claim, events, loads, storiesIn } from './story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('21 deployments over two nodes are placed 11 and 10, in the order of the queue', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  const ids = await deployments(sql, 21)
  t.equal((await claim(sql)).length, 21)
  t.same(await loads(sql), { 'host-a': 11, 'host-b': 10 })
  const claimed = await events(sql, 'claimed')
  t.same(claimed.map((event) => event.deployment_id), ids, 'one event for each, in queue order')
  t.same(claimed.map((event) => event.node), ids.map((_, nr) => (nr % 2 === 0 ? 'host-a' : 'host-b')), 'in turn')
  t.ok((await assignments(sql)).every(({ epoch, wanted }) => epoch === '1' && wanted === 'run'))
})
