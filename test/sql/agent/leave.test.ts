import { randomUUID } from 'node:crypto'
import t from 'tap'
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
import { claim, events, loads, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

story(
  'an agent that leaves gives everything back at once, and it goes on elsewhere',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    await node(sql, { name: 'host-b' })
    await deployments(sql, 10)
    await claim(sql)
    const [left] = await sql`select mooring.leave('host-a', ${host.session}) as n`
    t.same(left, { n: 5 })
    t.match(await events(sql, 'node_left'), [{ node: 'host-a', detail: { released: 5 } }])
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 10 })
  },
)

story('it is not live any more, its session is over and its name is free', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await sql`select mooring.leave('host-a', ${host.session})`
  const status = async () =>
    (
      await sql`
        select health, session, left_at <= clock_timestamp() as dated from mooring.node_status`
    )[0]
  t.same(await status(), { health: 'LEFT', session: null, dated: true })
  await refused(t, sql, (sql) => beat(sql, host), { code: 'MR001' })
  await deployment(sql)
  t.same(await claim(sql), [])
  await sql`select from mooring.register_node('host-a', ${randomUUID()}, '.')`
  t.equal((await claim(sql)).length, 1)
  t.match(await status(), { health: 'HEALTHY', dated: null })
  await age(sql, 'host-a', '1 hour ago')
  t.match(await status(), { health: 'STALE', dated: null }, 'this one fell silent')
})

story(
  'daemons stay with the node, but those that were ordered to stop are gone',
  async (t, sql) => {
    const stays = await deployment(sql, { type: 'daemon' })
    const ends = await deployment(sql, { type: 'daemon' })
    const host = await node(sql, { name: 'host-a' })
    await sql`update mooring.deployment set enabled = false where id = ${ends}`
    await sql`select mooring.leave('host-a', ${host.session})`
    t.match(await assignments(sql), [{ deployment_id: stays, node: 'host-a', wanted: 'run' }])
    t.equal((await assignments(sql)).length, 1)
  },
)

story(
  'what was to stop ends: disabled work waits stopped, deleted work is gone',
  async (t, sql) => {
    const host = await node(sql, { name: 'host-a' })
    const [off, gone] = [await deployment(sql), await deployment(sql)]
    await claim(sql)
    await sql`update mooring.deployment set enabled = false where id = ${off}`
    await sql`delete from mooring.deployment where id = ${gone}`
    await sql`select mooring.leave('host-a', ${host.session})`
    t.match(await assignments(sql), [{ deployment_id: off, node: null, wanted: 'stop' }])
    t.equal((await assignments(sql)).length, 1)
  },
)

story('only the living session may leave', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await refused(t, sql, (sql) => sql`select mooring.leave('host-a', ${randomUUID()})`, {
    code: 'MR001',
  })
  await refused(t, sql, (sql) => sql`select mooring.leave('host-z', ${host.session})`, {
    code: 'MR003',
  })
  t.same(await loads(sql), { 'host-a': 1 })
})

story('the last observation of what it gave back says stopped', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployment(sql)
  await claim(sql)
  await report(sql, host, (await assignments(sql))[0]!, 'running', { pid: 9 })
  await sql`select mooring.leave('host-a', ${host.session})`
  const [row] = await sql`select state, pid from mooring.run`
  t.same(row, { state: 'stopped', pid: null })
})
