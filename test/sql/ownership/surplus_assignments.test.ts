// Which replicas go when a deployment is scaled down, and which ordinals come after that.
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { randomOf } from '../../../faults/plan.js'
import { testDatabase } from '../../helpers/postgres.js'
import { age, assignments, deployment, node, report } from '../../helpers/factories.js'
import type { AssignmentRow, TestNode } from '../../helpers/factories.js'
import { claim, obeyOrders, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

const rows = async (sql: TransactionSql, id: string) =>
  (await assignments(sql, id)).sort((a, b) => a.ordinal! - b.ordinal!)
const scale = (sql: TransactionSql, id: string, replicas: number) =>
  sql`update mooring.deployment set replicas = ${replicas} where id = ${id}`
const wantedOrdinals = async (sql: TransactionSql, id: string) =>
  (await rows(sql, id)).filter((row) => row.wanted === 'run').map((row) => row.ordinal)

interface Fleet {
  id: string
  hosts: TestNode[]
  all: AssignmentRow[]
}

/** A deployment whose replicas run, one on each host. */
async function running(sql: TransactionSql, replicas: number): Promise<Fleet> {
  const hosts: TestNode[] = []
  for (let n = 0; n < replicas; n++) hosts.push(await node(sql, { name: `host-${n}` }))
  const id = await deployment(sql, { replicas })
  await claim(sql)
  await obeyOrders(sql, hosts)
  await sql`update mooring.run set last_active_at = clock_timestamp() - interval '1 hour'`
  return { id, hosts, all: await rows(sql, id) }
}
const on = (fleet: Fleet, ordinal: number) =>
  fleet.hosts.find(({ name }) => name === fleet.all[ordinal]!.node)!

story('of replicas that all serve the highest ordinals go', async (t, sql) => {
  const fleet = await running(sql, 3)
  await scale(sql, fleet.id, 1)
  t.same(await wantedOrdinals(sql, fleet.id), [0])
})

const ills: Record<string, (sql: TransactionSql, fleet: Fleet) => Promise<unknown>> = {
  'crash-loops and waits for its next start': (sql, fleet) =>
    report(sql, on(fleet, 0), fleet.all[0]!, 'backoff', { restarts: 3, error: 'exit 1' }),
  'crash-loops and runs at the moment': (sql, fleet) =>
    report(sql, on(fleet, 0), fleet.all[0]!, 'running', { restarts: 3, pid: 7 }),
  'does not start': (sql, fleet) =>
    report(sql, on(fleet, 0), fleet.all[0]!, 'failed', { error: 'no such version' }),
  'is on a host that is silent': (sql, fleet) => age(sql, on(fleet, 0).name, '61 seconds ago'),
  'is being installed': (sql, fleet) => report(sql, on(fleet, 0), fleet.all[0]!, 'installing'),
  'stops for a move': (sql, fleet) =>
    sql`select from mooring.reassign(${fleet.all[0]!.id}, ${on(fleet, 1).name})`,
  waits: async (sql, fleet) => {
    // its host dies, and the other one is full
    await sql`update mooring.node set max_assignments = 1`
    await age(sql, on(fleet, 0).name, '61 seconds ago')
    await sql`select from mooring.reap()`
  },
}
for (const [what, befalls] of Object.entries(ills))
  story(`ordinal 0 ${what}: it goes, and what serves stays as it is`, async (t, sql) => {
    const fleet = await running(sql, 2)
    await befalls(sql, fleet)
    const serving = (await rows(sql, fleet.id)).find((row) => row.id === fleet.all[1]!.id)
    await scale(sql, fleet.id, 1)
    t.same(await wantedOrdinals(sql, fleet.id), [1])
    await obeyOrders(sql, fleet.hosts, 'stop')
    if (what.includes('silent')) {
      await sql`update mooring.heartbeat set beat_at = clock_timestamp()`
      await obeyOrders(sql, fleet.hosts, 'stop')
    }
    t.same(await rows(sql, fleet.id), [serving], 'the same row, owner, epoch and ordinal')
    t.same(
      [...(await sql`select mooring_internal.inconsistent_deployments() as ids`)],
      [{ ids: [] }],
    )

    await scale(sql, fleet.id, 3)
    t.same(await wantedOrdinals(sql, fleet.id), [0, 1, 2], 'the lowest free ordinals come')
  })

story('of two on one host the second goes', async (t, sql) => {
  const hosts = [await node(sql, { name: 'host-a' })]
  const id = await deployment(sql, { replicas: 2 })
  await claim(sql)
  hosts.push(await node(sql, { name: 'host-b' }))
  await scale(sql, id, 3)
  await claim(sql)
  await obeyOrders(sql, hosts)
  await sql`update mooring.run set last_active_at = clock_timestamp() - interval '1 hour'`
  const nodes = async () => (await rows(sql, id)).map((row) => [row.ordinal, row.node, row.wanted])
  t.same(await nodes(), [
    [0, 'host-a', 'run'],
    [1, 'host-a', 'run'],
    [2, 'host-b', 'run'],
  ])
  await scale(sql, id, 2)
  t.same(await nodes(), [
    [0, 'host-a', 'run'],
    [1, 'host-a', 'stop'],
    [2, 'host-b', 'run'],
  ])
})

story('scaled down and up again at once, what stops comes back to its row', async (t, sql) => {
  const fleet = await running(sql, 3)
  await scale(sql, fleet.id, 1)
  await scale(sql, fleet.id, 2)
  t.same(
    (await rows(sql, fleet.id)).map((row) => [row.ordinal, row.wanted]),
    [
      [0, 'run'],
      [1, 'stop'],
      [2, 'stop'],
    ],
    'an order to stop is not revoked',
  )
  await obeyOrders(sql, fleet.hosts, 'stop')
  t.same(
    (await rows(sql, fleet.id)).map((row) => [row.ordinal, row.node === null, row.wanted]),
    [
      [0, false, 'run'],
      [1, true, 'run'],
    ],
  )
})

story('deleted and inserted under its id, a survivor of another ordinal counts', async (t, sql) => {
  const fleet = await running(sql, 2)
  await report(sql, on(fleet, 0), fleet.all[0]!, 'backoff', { restarts: 3, error: 'exit 1' })
  await scale(sql, fleet.id, 1)
  await obeyOrders(sql, fleet.hosts, 'stop')
  await sql`delete from mooring.deployment where id = ${fleet.id}`
  await deployment(sql, { id: fleet.id, replicas: 1 })
  t.same(
    (await rows(sql, fleet.id)).map((row) => [row.ordinal, row.node !== null, row.wanted]),
    [[1, true, 'stop']],
    'no second row starts beside it',
  )
  await obeyOrders(sql, fleet.hosts, 'stop')
  t.same(
    (await rows(sql, fleet.id)).map((row) => [row.ordinal, row.node, row.wanted]),
    [[1, null, 'run']],
  )
})

story('a surplus row that is freed by hand ends in the next round', async (t, sql) => {
  const fleet = await running(sql, 2)
  await scale(sql, fleet.id, 1)
  await age(sql, on(fleet, 1).name, '61 seconds ago')
  await sql`update mooring.assignment set node_id = null where id = ${fleet.all[1]!.id}`
  await sql`select mooring_internal.mend_assignments()`
  t.same(
    (await rows(sql, fleet.id)).map((row) => row.id),
    [fleet.all[0]!.id],
  )
})

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8])
  story(`at random, what stays is no worse than what goes (${seed})`, async (t, sql) => {
    const random = randomOf(seed)
    const below = (n: number): number => Math.floor(random() * n)
    const hosts: TestNode[] = []
    for (let n = 0; n < 4; n++) hosts.push(await node(sql, { name: `host-${n}` }))
    const ids: string[] = []
    for (let n = 0; n < 12; n++) ids.push(await deployment(sql, { replicas: 2 + below(7) }))
    await claim(sql)
    const grade = new Map<string, number>()
    for (const row of await assignments(sql)) {
      const host = hosts.find(({ name }) => name === row.node)!
      const [state, worth] = (
        [
          ['running', 0],
          ['running', 0],
          ['installing', 1],
          ['backoff', 3],
          ['failed', 3],
        ] as const
      )[below(5)]!
      await report(sql, host, row, state, state === 'running' ? { pid: 1 } : {})
      grade.set(row.id, worth)
    }
    await age(sql, 'host-3', '61 seconds ago')
    for (const id of ids) {
      const before = await rows(sql, id)
      const worth = (row: AssignmentRow) =>
        Math.max(grade.get(row.id)!, row.node === 'host-3' ? 2 : 0)
      const left = below(before.length)
      await scale(sql, id, left)
      const after = await rows(sql, id)
      const stays = after.filter((row) => row.wanted === 'run')
      const goes = after.filter((row) => row.wanted === 'stop')
      t.equal(stays.length, left)
      t.ok(
        stays.every((s) => goes.every((g) => worth(s) <= worth(g))),
        `deployment ${id}`,
      )
    }
  })
