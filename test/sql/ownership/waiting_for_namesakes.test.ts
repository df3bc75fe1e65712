/** What has the name of a deleted deployment starts when nothing of that one runs any more. */
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, node } from '../../helpers/factories.js'
import { claim, obeyOrders, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const reasons = async (sql: TransactionSql) =>
  (await sql<{ reason: string }[]>`select u.reason from mooring.unplaced u order by 1`).map(
    ({ reason }) => reason,
  )

/** One host, and a deployment of that name that was deleted while it runs there. */
async function stoppingWeb(sql: TransactionSql, spec = {}) {
  const host = await node(sql, { name: 'host-a' })
  const old = await deployment(sql, { name: 'web', ...spec })
  await claim(sql)
  await sql`delete from mooring.deployment where id = ${old}`
  return { host, old }
}

story('the second of a name waits until the first has stopped, and says so', async (t, sql) => {
  const { host, old } = await stoppingWeb(sql)
  const again = await deployment(sql, { name: 'web', replicas: 2 })
  const other = await deployment(sql, { name: 'shop' })
  t.same(
    (await claim(sql)).length,
    1,
    'what has another name is placed, though every node judges it alike',
  )
  t.match(await assignments(sql, other), [{ node: 'host-a' }])
  const why =
    `it waits until deployment ${old}, which had its name and was deleted, ` +
    'has stopped on host-a'
  t.same(await reasons(sql), [why, why])
  t.match(await sql`select * from mooring.simulate_node_loss('host-a')`, [])

  await obeyOrders(sql, [host])
  await claim(sql)
  t.match(await assignments(sql, again), [{ node: 'host-a' }, { node: 'host-a' }])
})

story('a host that is lost ends the wait', async (t, sql) => {
  await stoppingWeb(sql)
  await node(sql, { name: 'host-b' })
  const again = await deployment(sql, { name: 'web' })
  t.same(await claim(sql), [])
  await age(sql, 'host-a', '1 hour ago')
  await sql`select from mooring.reap()`
  await claim(sql)
  t.match(await assignments(sql, again), [{ node: 'host-b' }])
})

story('what never ran is not waited for', async (t, sql) => {
  const old = await deployment(sql, { name: 'web' })
  await sql`delete from mooring.deployment where id = ${old}`
  await node(sql, { name: 'host-a' })
  const again = await deployment(sql, { name: 'web' })
  await claim(sql)
  t.match(await assignments(sql, again), [{ node: 'host-a' }])
})

story('a deployment that gets the name later waits, too', async (t, sql) => {
  const { host } = await stoppingWeb(sql)
  const other = await deployment(sql, { name: 'shop' })
  await sql`update mooring.deployment set name = 'web' where id = ${other}`
  t.same(await claim(sql), [])
  await obeyOrders(sql, [host])
  await claim(sql)
  t.match(await assignments(sql, other), [{ node: 'host-a' }])
})

story('the same id under another name is not its own namesake', async (t, sql) => {
  const { host, old } = await stoppingWeb(sql)
  await deployment(sql, { id: old, name: 'web' })
  await obeyOrders(sql, [host])
  t.equal((await claim(sql)).length, 1)
})

story('a daemon starts on each host when the one of its name has stopped there', async (t, sql) => {
  const { host } = await stoppingWeb(sql, { type: 'daemon' })
  const again = await deployment(sql, { name: 'web', type: 'daemon' })
  t.match(await assignments(sql, again), [])
  await obeyOrders(sql, [host])
  t.match(await assignments(sql, again), [{ node: 'host-a', wanted: 'run' }])
})

story('the round forgets what has stopped, and nothing else', async (t, sql) => {
  const { host } = await stoppingWeb(sql)
  await deployment(sql, { name: 'web' })
  const noted = async () =>
    (
      await sql<{ n: number }[]>`
        select (select count(*) from mooring_internal.stopping_deployment)::int
               + (select count(*) from mooring_internal.namesake)::int as n`
    )[0]!.n
  await sql`select from mooring.evict()`
  t.equal(await noted(), 2)
  await obeyOrders(sql, [host])
  await sql`select from mooring.evict()`
  t.equal(await noted(), 0)
})
