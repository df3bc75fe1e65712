// What runs stays where it is, even when the placement of new work changes.
import t from 'tap'
import type { TransactionSql } from 'postgres'
import { assignments, beat, deployments, node, report } from '../../helpers/factories.js'
import type { TestNode } from '../../helpers/factories.js'
import { testDatabase } from '../../helpers/postgres.js'
import { claim, storiesIn } from '../story.js'

const pg = await testDatabase(t)
const story = storiesIn(pg, t)

/**
 * Two hosts with ten running each, for longer than any cooldown; and a third one, that came later
 * and is empty.
 */
async function fleet(sql: TransactionSql): Promise<TestNode[]> {
  const hosts = [
    await node(sql, { name: 'host-a', sample: { cpu_pct: 80, memory_mb: 900, disk_free_pct: 40 } }),
    await node(sql, { name: 'host-b', sample: { cpu_pct: 5, memory_mb: 100, disk_free_pct: 90 } }),
  ]
  await deployments(sql, 20)
  await claim(sql)
  for (const host of hosts)
    for (const row of (await assignments(sql)).filter((row) => row.node === host.name))
      await report(sql, host, row, 'running')
  await sql`update mooring.assignment set assigned_at = assigned_at - interval '1 hour'`
  return [...hosts, await node(sql, { name: 'host-c', weight: 10_000 })]
}

/**
 * Every round, as workers and agents run them, and a beat of every node. It returns what the agents
 * are ordered, and what is recorded.
 */
async function rounds(sql: TransactionSql, hosts: TestNode[]) {
  for (let times = 0; times < 3; times++) {
    await sql`update mooring_internal.round set due_at = '-infinity'`
    await sql`select from mooring.tick('agent host-a', inline => true)`
    await claim(sql)
    await sql`select from mooring.evict()`
    await sql`select from mooring.reap()`
  }
  const digests = []
  for (const host of hosts) digests.push((await beat(sql, host)).digest)
  return {
    owners: (await assignments(sql)).map(({ id, node, epoch, wanted, generation }) => ({
      id,
      node,
      epoch,
      wanted,
      generation,
    })),
    digests,
    moves: (await sql`select from mooring_internal.moves_under_way()`).length,
    told: (
      await sql`
        select
          from mooring.event
         where kind in ('claimed', 'released', 'reaped', 'stop_wanted', 'move_wanted')`
    ).length,
  }
}

const CHANGES: [string, string][] = [
  [
    'the weight of its node falls to nothing',
    `update mooring.node set weight = 0.001 where name = 'host-a'`,
  ],
  [
    'another node gets a thousand times the weight',
    `update mooring.node set weight = 100000 where name = 'host-b'`,
  ],
  ['the policy of each deployment changes', `update mooring.deployment set policy = 'hash'`],
  ['to one by load', `update mooring.deployment set policy = 'resource_usage'`],
  ['to none', `update mooring.deployment set policy = 'none'`],
  ['the default policy changes', `update mooring.setting set default_policy = 'disk_free'`],
  [
    'cpu and memory weigh otherwise',
    `
      update mooring.setting
         set default_policy = 'resource_usage', cpu_weight = 1, memory_weight = 0`,
  ],
  ['its node may hold less than it holds', `update mooring.node set max_assignments = 1`],
  ['its node is disabled', `select from mooring.set_node_enabled('host-a', false)`],
  [
    'its node has no disk left',
    `update mooring.heartbeat set disk_free_pct = 1 where node = 'host-a'`,
  ],
  [
    'a policy costs otherwise',
    `
      create or replace function mooring.policy_deployment_count(
        node mooring.node_state, k int
      ) returns float8
        language sql immutable parallel safe
        return -node.id`,
  ],
]

for (const [what, change] of CHANGES) {
  story(`nothing that runs moves when ${what}`, async (t, sql) => {
    const hosts = await fleet(sql)
    const before = await rounds(sql, hosts)
    t.same(before.owners.map(({ node }) => node).sort(), [
      ...Array<string>(10).fill('host-a'),
      ...Array<string>(10).fill('host-b'),
    ])
    await sql.unsafe(change)
    t.same(
      await rounds(sql, hosts),
      before,
      'owners, epochs, the orders of the agents, and history',
    )
  })
}

story(
  'control: what is no longer permitted is stopped, and what is asked to move does',
  async (t, sql) => {
    const hosts = await fleet(sql)
    const before = await rounds(sql, hosts)
    await sql`update mooring.node set weight = 0.001 where name = 'host-a'`
    await sql`select from mooring.rebalance(3, false)`
    const asked = await rounds(sql, hosts)
    t.equal(asked.moves, 3)
    t.notSame(asked.digests, before.digests, 'their agents are notified')
    await sql`update mooring.node set trusts = '^nothing@' where name = 'host-b'`
    t.equal(
      (await rounds(sql, hosts)).owners.filter(
        ({ node, wanted }) => node === 'host-b' && wanted === 'stop',
      ).length,
      10,
    )
  },
)
