/**
 * A host with 21 running deployments loses power: its agent and all its processes are killed. Two
 * hosts are left. The database's clock measures from the end of the dead host's lease, which is its
 * last beat + lease_ttl + reap_margin: no node may own its work earlier. The end is the moment at
 * which another session reads all 21 on the survivors.
 */
import { assertEqual, repeat, type Bench, type Benchmark, type Figure } from './benchmark.js'
import {
  countRunning,
  hintsOf,
  insertCommands,
  removeDeployments,
  untilCounted,
} from './workload.js'

export const benchmarks: Benchmark[] = [{ name: 'failover', spawns: true, run: failover }]

const ROWS = 21

interface Failover {
  assigned_s: number
  running_s: number
  silent_s: number
}

async function failover(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      if (bench.quick)
        await sql`
          update mooring.setting
             set beat_interval = '500 ms', lease_ttl = '3 s', reap_margin = '500 ms'`
      await Promise.all([host.worker(), host.agent('host-b'), host.agent('host-c')])
      const runs = await repeat(bench, async (run) => {
        bench.say(`a host with ${ROWS} dies, run ${run}`)
        const dying = await host.agent('host-a')
        const hints = await hintsOf(database)
        await sql`update mooring.node n set enabled = n.name = 'host-a'`
        await insertCommands(sql, ROWS)
        await hints.until(async () => (await countRunning(sql, ['host-a'])) === ROWS)
        await sql`update mooring.node set enabled = true`
        await dying.die()
        const [lease] = await sql<{ ends_at: string; beat_at: string }[]>`
          select (extract(epoch from h.beat_at + h.lease_ttl + s.reap_margin))::text as ends_at,
                 (extract(epoch from h.beat_at))::text as beat_at
            from mooring.heartbeat h
            cross join mooring.setting s
           where h.node_id = (select n.id from mooring.node n where n.name = 'host-a')`
        const survivors = ['host-b', 'host-c']
        let assignedAt = 0
        await hints.until(async () => {
          const [row] = await sql<{ n: number; at: string }[]>`
            select count(*)::int as n, extract(epoch from clock_timestamp())::text as at
              from mooring.placement p
             where p.node = any (${survivors})`
          assignedAt = Number(row!.at)
          return row!.n === ROWS
        })
        await untilCounted(sql, ROWS, survivors)
        const [now] = await sql<
          { at: string }[]
        >`select extract(epoch from clock_timestamp())::text as at`
        const owners = await sql<{ n: number }[]>`
          select count(*)::int as n
            from mooring.placement p
           where p.node is not null
           group by p.node
           order by 1`
        assertEqual(owners.map(({ n }) => n).join('/'), '10/11', 'assignments of the survivors')
        await removeDeployments(sql)
        const endsAt = Number(lease!.ends_at)
        return {
          assigned_s: assignedAt - endsAt,
          running_s: Number(now!.at) - endsAt,
          silent_s: assignedAt - Number(lease!.beat_at),
        } satisfies Failover
      })
      return [
        {
          what: `dead host with ${ROWS}: lease end -> all assigned to survivors`,
          unit: 'ms',
          asked: { atMost: 300 },
          values: runs.map((run) => run.assigned_s * 1000),
          note: 'lease end: last beat + lease_ttl + reap_margin',
        },
        {
          what: 'the same -> all observed running there',
          unit: 'ms',
          values: runs.map((run) => run.running_s * 1000),
        },
        {
          what: 'the same, from the last beat',
          unit: 'ms',
          values: runs.map((run) => run.silent_s * 1000),
          note: bench.quick ? 'scaled-down lease' : 'lease 12 s, margin 3 s',
        },
      ]
    }),
  )
}
