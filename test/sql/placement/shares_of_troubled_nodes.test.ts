// Placement remembers which nodes were lost lately and on which everything fails.
import t from 'tap'
import type { TransactionSql } from 'postgres'
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
import type { TestNode } from '../../helpers/factories.js'
import { claim, events, loads, obeyOrders, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const shares = async (sql: TransactionSql) =>
  Object.fromEntries(
    (
      await sql<{ name: string; share: number }[]>`
        select n.name, round(s.share::numeric, 2)::float8 as share
          from mooring_internal.shares_of_troubled_nodes() s
          join mooring.node n on n.id = s.node_id`
    ).map(({ name, share }) => [name, share]),
  )
const troubleAgo = (sql: TransactionSql, ago: string) =>
  sql`update mooring_internal.node_trouble set last_at = clock_timestamp() - ${ago}::interval`

/** Everything that runs on this host has failed so often. */
async function allFail(sql: TransactionSql, host: TestNode, restarts: number): Promise<void> {
  for (const row of await assignments(sql))
    if (row.node === host.name && row.wanted === 'run')
      await report(sql, host, row, 'backoff', { restarts, error: 'exit 1' })
}

/** Its lease ends, it is reaped, and it comes back with a new session. */
async function flap(sql: TransactionSql, host: TestNode): Promise<void> {
  await age(sql, host.name, '61 seconds ago')
  await sql`select from mooring.reap()`
  await node(sql, { name: host.name, session: host.session, came: '0 s' })
}

story('a host on which everything fails loses its work to one where it runs', async (t, sql) => {
  const [bad, good] = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
  await deployments(sql, 12)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 6, 'host-b': 6 })
  await obeyOrders(sql, [good])
  await allFail(sql, bad, 1)
  t.same(await shares(sql), { 'host-a': 0.14 }, '1 / (1 + 6)')

  await sql`select from mooring.evict()`
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 6, 'host-b': 6 }, 'once is nothing')
  await allFail(sql, bad, 5)
  await sql`select from mooring.evict()`
  t.match((await events(sql, 'stop_wanted'))[0], {
    node: 'host-a',
    reason: 'it failed 5 times on this node: another one takes it',
  })
  await obeyOrders(sql, [bad], 'stop')
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 0, 'host-b': 12 })

  await deployments(sql, 4)
  await claim(sql)
  t.same(
    await loads(sql),
    { 'host-a': 2, 'host-b': 14 },
    'with a seventh of its weight it is even at two of sixteen',
  )
  await troubleAgo(sql, '11 minutes')
  t.same(await shares(sql), {})
})

story('a deployment that fails everywhere moves three times and then stays', async (t, sql) => {
  const hosts: TestNode[] = []
  for (let n = 0; n < 6; n++) hosts.push(await node(sql, { name: `host-${n}` }))
  await deployment(sql)
  const seen = new Set<string | null>()
  for (let round = 0; round < 10; round++) {
    await claim(sql)
    for (const host of hosts) await allFail(sql, host, 5)
    await sql`select from mooring.evict()`
    await obeyOrders(sql, hosts, 'stop')
    seen.add((await assignments(sql))[0]!.node)
  }
  seen.delete(null)
  t.equal(seen.size, 1, 'it has come to rest')
  t.equal((await events(sql, 'stop_wanted')).length, 3)
  t.same(await shares(sql), {}, 'no node is blamed for the only deployment that fails')
  t.same(await sql`select mooring_internal.inconsistent_deployments() as ids`, [{ ids: [] }])

  await sql`update mooring.deployment set generation = generation + 1`
  t.same(
    await sql`select refused_by from mooring.assignment`,
    [{ refused_by: [] }],
    'an edit begins again',
  )
})

story('what fails stays where no other node could take it', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b', trusts: null, drivers: ['npm'] })
  await deployment(sql)
  await claim(sql)
  await allFail(sql, host, 9)
  await sql`select from mooring.evict()`
  t.match(await assignments(sql), [{ node: 'host-a', wanted: 'run' }])
})

story('move_after = null keeps what fails where it is', async (t, sql) => {
  await sql`update mooring.setting set move_after = null`
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployment(sql, { pinned_node: 'host-a' })
  await claim(sql)
  await sql`update mooring.deployment set pinned_node = null`
  await allFail(sql, host, 9)
  await sql`select from mooring.evict()`
  t.match(await assignments(sql), [{ node: 'host-a', wanted: 'run' }])
})

for (const [memory, lost] of [
  ['10 min', 4],
  [null, 20],
] as const)
  story(`a host that flaps loses work ${lost} times with a memory of ${memory}`, async (t, sql) => {
    await sql`update mooring.setting set trouble_memory = ${memory}`
    const hosts = [await node(sql, { name: 'host-a' }), await node(sql, { name: 'host-b' })]
    const [flapping, steady] = hosts as [TestNode, TestNode]
    for (let n = 0; n < 8; n++) {
      await deployment(sql)
      await claim(sql)
      await obeyOrders(sql, hosts)
      await beat(sql, steady)
      await flap(sql, flapping)
    }
    t.equal((await events(sql, 'reaped')).length, lost)
  })

story('the time until its whole share grows with each loss, up to six', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployment(sql, { pinned_node: 'host-a' })
  const after = async (minutes: number) => {
    await troubleAgo(sql, `${minutes} minutes`)
    await sql`
      update mooring.heartbeat
         set session_at = clock_timestamp() - ${`${minutes} minutes`}::interval
       where node = 'host-a'`
    return await shares(sql)
  }
  for (const losses of [1, 2, 3, 4, 5, 6, 7, 8]) {
    await claim(sql)
    await flap(sql, host)
    t.same(await shares(sql), { 'host-a': [0.5, 0.25, 0.13, 0.06, 0.05][Math.min(losses, 5) - 1] })
    const whole = 10 * Math.min(losses, 6)
    t.same(await after(whole / 2), { 'host-a': 0.5 }, `lost ${losses} times`)
    t.same(await after(whole), {})
    await troubleAgo(sql, '0 s')
  }
})

story('a node in trouble that is the last one gets all the work', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await claim(sql)
  await flap(sql, host)
  await allFail(sql, host, 9)
  await deployments(sql, 3)
  await claim(sql)
  t.same(await loads(sql), { 'host-a': 6 })
})

story('trouble_memory = null forgets all of it', async (t, sql) => {
  await sql`update mooring.setting set trouble_memory = null`
  const bad = await node(sql, { name: 'host-a' })
  await node(sql, { name: 'host-b' })
  await deployments(sql, 6)
  await claim(sql)
  await allFail(sql, bad, 1)
  t.same(await shares(sql), {})
})

story('the memory is bounded, and the evict round forgets', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  const ids = await deployments(sql, 3)
  await claim(sql)
  for (let n = 1; n < 50; n++) await allFail(sql, host, n)
  const kept = () => sql`
    select deployment_id, times from mooring_internal.node_trouble order by deployment_id`
  t.same(
    [...(await kept())],
    ids.map((id) => ({ deployment_id: id, times: 49 })),
  )
  await sql`delete from mooring.deployment where id = ${ids[0]!}`
  await sql`select from mooring.evict()`
  t.equal((await kept()).length, 2, 'of a deployment that is gone nothing is kept')
  await troubleAgo(sql, '61 min')
  await allFail(sql, host, 1)
  t.match(await kept(), [{ times: 1 }, { times: 1 }], 'after a quiet hour counting begins again')
  await troubleAgo(sql, '61 min')
  await sql`select from mooring.evict()`
  t.same([...(await kept())], [])
})

story('doctor() names what is given less work, and why', async (t, sql) => {
  const host = await node(sql, { name: 'host-a' })
  for (const name of ['web', 'api']) await deployment(sql, { name })
  await claim(sql)
  const check = async () =>
    (
      await sql`
        select level, found from mooring.doctor() where check_name = 'trouble'`
    )[0]
  t.match(await check(), { level: 'ok' })
  await flap(sql, host)
  await claim(sql)
  t.match(await check(), { level: 'ok' }, 'a host may die once')
  await flap(sql, host)
  await claim(sql)
  await allFail(sql, host, 2)
  t.match(await check(), {
    level: 'warning',
    found: 'given less new work: host-a (web, api fail there), lost 2 times',
  })
})
