/**
 * No deployment falls below its budget by an act of ours: random fleets, with drains of several
 * hosts at once, rebalances and edits in any order.
 */
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { randomOf } from '../../../faults/plan.js'
import { testDatabase } from '../../helpers/postgres.js'
import { beat, deployment, node, type TestNode } from '../../helpers/factories.js'
import { claim, obeyOrders, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/** Deployments of which more than one replica does not run. */
const below = async (sql: TransactionSql) =>
  await sql<{ name: string; running: number }[]>`
  select d.name, count(a.id)::int as running, d.replicas
    from mooring.deployment d
    left join (
      select a.id, a.deployment_id
        from mooring.assignment a
        join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       where a.wanted = 'run' and r.state = 'running') a on a.deployment_id = d.id
   where d.enabled
   group by d.id
  having count(a.id) < d.replicas - 1
   order by d.name`

async function fleet(sql: TransactionSql, n: number): Promise<TestNode[]> {
  const hosts: TestNode[] = []
  for (let nr = 1; nr <= n; nr++)
    hosts.push(await node(sql, { name: `host-${nr}`, labels: { disk: nr % 2 ? 'ssd' : 'hdd' } }))
  return hosts
}

story('two replicas on two hosts that are drained at once move one by one', async (t, sql) => {
  const hosts = await fleet(sql, 2)
  await deployment(sql, { name: 'web', replicas: 2 })
  await claim(sql)
  await obeyOrders(sql, hosts)
  hosts.push(await node(sql, { name: 'host-3' }), await node(sql, { name: 'host-4' }))
  await sql`select mooring.drain_node('host-1')`
  await sql`select mooring.drain_node('host-2')`
  for (let step = 0; step < 8; step++) {
    await claim(sql)
    t.same(await below(sql), [], `step ${step}`)
    await obeyOrders(sql, hosts)
  }
  t.match(await sql`select "left" from mooring.drain_progress`, [{ left: 0 }, { left: 0 }])
})

story(
  'with nowhere to go for more than one the drain waits, and the other serves',
  async (t, sql) => {
    const hosts = await fleet(sql, 1)
    await deployment(sql, { name: 'web', replicas: 2 })
    await claim(sql)
    await obeyOrders(sql, hosts)
    hosts.push(await node(sql, { name: 'host-2' }))
    await sql`select mooring.drain_node('host-1', max_moves => 100)`
    await claim(sql)
    t.same(await below(sql), [])
    await obeyOrders(sql, hosts, 'stop')
    await claim(sql)
    t.same(await below(sql), [], 'the first has not been seen running on host-2')
    for (let step = 0; step < 4; step++) {
      await obeyOrders(sql, hosts)
      await claim(sql)
      t.same(await below(sql), [])
    }
    t.match(await sql`select "left" from mooring.drain_progress`, [{ left: 0 }])
  },
)

story('a deadline overrules the budget', async (t, sql) => {
  const hosts = await fleet(sql, 1)
  await deployment(sql, { name: 'web', replicas: 2 })
  await claim(sql)
  await obeyOrders(sql, hosts)
  await sql`select mooring.drain_node('host-1', deadline => '0')`
  await claim(sql)
  t.equal((await below(sql)).length, 1)
})

story('an edit that no host fulfils leaves what runs and says so', async (t, sql) => {
  const hosts = await fleet(sql, 2)
  const id = await deployment(sql, { name: 'web', replicas: 2 })
  await claim(sql)
  await obeyOrders(sql, hosts)
  await sql`update mooring.deployment set selector = '{"disk": "tape"}' where id = ${id}`
  await sql`select mooring.evict()`
  t.same(await below(sql), [])
  t.match(await sql`select reason from mooring.event where kind = 'stop_postponed'`, [
    { reason: /it runs on, because no other node can take it/ },
    {},
  ])
  await sql`update mooring.deployment set selector = '{"disk": "ssd"}' where id = ${id}`
  for (let step = 0; step < 4; step++) {
    await sql`select mooring.evict()`
    await claim(sql)
    t.same(await below(sql), [])
    await obeyOrders(sql, hosts)
  }
  t.match(await sql`select distinct node from mooring.placement`, [{ node: 'host-1' }])
})

story('what is no longer trusted stops at once', async (t, sql) => {
  const hosts = await fleet(sql, 2)
  await deployment(sql, { name: 'web', replicas: 2 })
  await claim(sql)
  await obeyOrders(sql, hosts)
  for (const { id } of hosts) await sql`update mooring.node set trusts = null where id = ${id}`
  t.equal((await below(sql)).length, 1)
})

for (let seed = 1; seed <= 25; seed++)
  story(`fleet ${seed}`, async (t, sql) => {
    const random = randomOf(seed)
    const pick = (n: number): number => Math.floor(random() * n)
    const hosts = await fleet(sql, 2 + pick(5))
    for (let nr = 0; nr < 6; nr++)
      await deployment(sql, {
        name: `d-${nr}`,
        replicas: 1 + pick(4),
        ...(pick(3) === 0 ? { handover: 'start-first', on_lost: 'keep' } : {}),
      })
    await sql`update mooring.setting set rebalance_cooldown = '0', handover_settle = '0'`
    for (let round = 0; round < 3; round++) {
      await claim(sql)
      await obeyOrders(sql, hosts)
    }
    const failures: unknown[] = []
    for (let step = 0; step < 15 && failures.length === 0; step++) {
      const name = hosts[pick(hosts.length)]!.name
      const edited = `d-${pick(6)}`
      const acts: (() => Promise<unknown>)[] = [
        () => sql`select mooring.drain_node(${name}, max_moves => 100)`,
        () => sql`select mooring.drain_node(${name})`,
        () => sql`select mooring.undrain_node(${name})`,
        () => sql`select mooring.rebalance(100, dry_run => false)`,
        () => sql`
          update mooring.deployment
             set selector = ${sql.json(pick(2) ? { disk: 'ssd' } : {})}
           where name = ${edited}`,
        () => sql`select mooring.evict()`,
      ]
      await acts[pick(acts.length)]!()
      for (const host of hosts) await beat(sql, host)
      await claim(sql)
      const found = await below(sql)
      if (found.length > 0) failures.push({ step, found })
      // some agents are slow
      await obeyOrders(
        sql,
        hosts.filter(() => pick(4) > 0),
      )
    }
    t.same(failures, [])
  })
