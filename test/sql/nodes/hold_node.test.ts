// A host that is rebooted on purpose: its work waits for it.
import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, deployments, node } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { claim, events, loads, obeyOrders, refused, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const hold = (sql: TransactionSql, name: string, time: string) =>
  sql`select from mooring.hold_node(${name}, ${time}::interval)`
const health = async (sql: TransactionSql, name: string) =>
  (await sql`select health from mooring.node_status where node = ${name}`)[0]!.health
/** As if this much time of the hold had passed. */
const pass = (sql: TransactionSql, time: string) => sql`
  update mooring.node set held_until = held_until - ${time}::interval
   where held_until is not null`

/** Two hosts, and on each of them two instances and a daemon that run. */
async function fleet(sql: TransactionSql): Promise<[TestNode, TestNode]> {
  const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })] as const
  await deployments(sql, 4)
  await deployment(sql, { type: 'daemon' })
  await claim(sql)
  await obeyOrders(sql, hosts)
  return [...hosts]
}
const ways: Record<string, (sql: TransactionSql, host: TestNode) => Promise<unknown>> = {
  'its agent is stopped': async (sql, host) => {
    await sql`select from mooring.begin_leave(${host.name}, ${host.session})`
    await sql`select mooring.leave(${host.name}, ${host.session})`
  },
  'its power is cut': (sql, host) => age(sql, host.name, '61 seconds ago'),
}
for (const [what, goesDown] of Object.entries(ways)) {
  story(`${what}: its work waits, and starts there when the agent is back`, async (t, sql) => {
    const [host] = await fleet(sql)
    await hold(sql, 'host-a', '10 min')
    const before = await assignments(sql)
    await goesDown(sql, host)
    await pass(sql, '9 min')
    await sql`select from mooring.reap()`
    await sql`select from mooring.evict()`
    await claim(sql)
    t.same(await assignments(sql), before, 'the same owners and epochs')
    t.equal(await health(sql, 'host-a'), 'HELD')

    await node(sql, { name: 'host-a', session: randomUUID() })
    t.same(await assignments(sql), before)
    t.match(await sql`select held_until from mooring.node`, [
      { held_until: null },
      { held_until: null },
    ])
    t.match(await events(sql, 'node_hold_ended'), [{ node: 'host-a', reason: 'its agent started' }])
    await age(sql, 'host-a', '61 seconds ago')
    await sql`select from mooring.reap()`
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 }, 'the next time it is lost as ever')
  })
  story(
    `${what}, and it does not come back: the work goes elsewhere after that`,
    async (t, sql) => {
      const [host] = await fleet(sql)
      await hold(sql, 'host-a', '10 min')
      await goesDown(sql, host)
      await pass(sql, '10 min')
      await sql`select from mooring.reap()`
      await claim(sql)
      t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 })
    },
  )
  story(`${what}, and an operator ends the hold: the work goes elsewhere`, async (t, sql) => {
    const [host] = await fleet(sql)
    await hold(sql, 'host-a', '10 min')
    await goesDown(sql, host)
    await hold(sql, 'host-a', '0')
    await sql`select from mooring.reap()`
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 0, 'host-b': 4 })
    t.match(await events(sql, 'node_hold_ended'), [{ reason: 'by an operator' }])
  })
}

story('what shall not run any more is not kept', async (t, sql) => {
  const [host] = await fleet(sql)
  await hold(sql, 'host-a', '10 min')
  await sql`update mooring.deployment set enabled = false where type = 'deployment'`
  await sql`select from mooring.begin_leave(${host.name}, ${host.session})`
  await sql`select mooring.leave(${host.name}, ${host.session})`
  t.match(await loads(sql), { 'host-a': 0 })
})

story(
  'a held node gets no new work, and no daemon, before its agent starts again',
  async (t, sql) => {
    await fleet(sql)
    await hold(sql, 'host-a', '10 min')
    await deployments(sql, 4)
    await deployment(sql, { type: 'daemon', name: 'new' })
    await claim(sql)
    t.same(await loads(sql), { 'host-a': 2, 'host-b': 6 })
    const daemons = async () =>
      (
        await sql`
        select p.node from mooring.placement p where p.name = 'new' order by p.node`
      ).map((row) => row.node)
    t.same(await daemons(), ['host-b'])
    const pinned = await deployment(sql, { pinned_node: 'host-a' })
    t.match(await sql`select node, verdict from mooring.explain(${pinned}::bigint)`, [
      { node: 'host-a', verdict: /held until its agent starts again: hold_node\('host-a', '0'\)/ },
      { node: 'host-b' },
    ])
    await age(sql, 'host-a', '61 seconds ago')
    await node(sql, { name: 'host-a', session: randomUUID() })
    t.same(await daemons(), ['host-a', 'host-b'])
    t.equal((await claim(sql)).length, 1)
  },
)

story('an agent that registers its session again does not end the hold', async (t, sql) => {
  const [host] = await fleet(sql)
  await hold(sql, 'host-a', '10 min')
  await node(sql, host)
  t.equal(await health(sql, 'host-a'), 'HELD')
})

story('its silence is no alarm and no evidence', async (t, sql) => {
  await fleet(sql)
  const nodes = async () =>
    (await sql`select level, found from mooring.doctor() where check_name = 'nodes'`)[0]
  await hold(sql, 'host-a', '10 min')
  await age(sql, 'host-a', '61 seconds ago')
  t.match(await nodes(), { level: 'ok', found: /^1 of 2 live; held: host-a \(.* to go\)$/ })
  await sql`update mooring.setting set reap_pause_min_nodes = 2, reap_pause_share = 0.1`
  await sql`select from mooring.reap()`
  t.match(await sql`select reap_paused from mooring.fleet`, [{ reap_paused: null }])
})

story('a time that makes no sense is refused', async (t, sql) => {
  await fleet(sql)
  for (const time of ['-1 s', '8 days'])
    await refused(t, sql, (sql) => hold(sql, 'host-a', time), {
      code: 'MR007',
      message: /is not held for/,
      hint: /at most 7 days; 0 ends the hold/,
    })
  await refused(t, sql, (sql) => sql`select from mooring.hold_node('host-a', null)`, {
    code: 'MR007',
  })
  await refused(t, sql, (sql) => hold(sql, 'hots-a', '1 min'), { code: 'MR003' })
})
