import { randomUUID } from 'node:crypto'
import t from 'tap'
import { testDatabase } from '../../helpers/postgres.js'
import { beat, deployments, node } from '../../helpers/factories.js'
import { claim, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story('an agent that is stopping keeps what it has and gets nothing new', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 4)
  await claim(sql)
  await sql`select mooring.begin_leave('host-a', ${host.session})`
  await deployments(sql, 4)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 2, 'host-b': 6 })
  t.match(await beat(sql, host), { owned: 2 }, 'its lease goes on')
  const [status] = await sql`select health, draining from mooring.node_status where node = 'host-a'`
  t.same(status, { health: 'DRAINING', draining: true })
})

story('the next session of the node takes work again', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await sql`select mooring.begin_leave('host-a', ${host.session})`
  await deployments(sql, 1)
  t.same(await claim(sql), [])
  await sql`select mooring.leave('host-a', ${host.session})`
  await sql`select from mooring.register_node('host-a', ${randomUUID()}, '.')`
  t.equal((await claim(sql)).length, 1)
})

story('only the living session may begin to leave', async (t, sql) => {
  await node(sql, { name: 'host-a' })
  await refused(t, sql, (sql) => sql`select mooring.begin_leave('host-a', ${randomUUID()})`, {
    code: 'MR001',
  })
})
