/**
 * What a database that goes away costs the work. For less than a lease: nothing. For longer: the
 * work is dead in time and back at once, on the same nodes.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Sql } from 'postgres'
import { assertEqual, repeat, type Bench, type Benchmark, type Figure } from './benchmark.js'
import { alive, insertCommands, removeDeployments, untilRunning, type Running } from './workload.js'

export const benchmarks: Benchmark[] = [
  { name: 'database/restart', spawns: true, run: restarted },
  { name: 'database/away', spawns: true, run: away },
]

const ROWS = 21
const PATIENCE_MS = 60_000

async function restarted(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      await Promise.all([host.worker(), host.agent('host-a'), host.agent('host-b')])
      await insertCommands(sql, ROWS)
      const runs = await repeat(bench, async (run) => {
        bench.say(`Postgres restarts under ${ROWS}, run ${run}`)
        const before = await untilRunning(sql, ROWS)
        await database.restart(0)
        // a whole lease: a node that does not come back is fenced by then
        const [setting] = await sql<{ ms: number }[]>`
          select extract(epoch from s.lease_ttl + s.reap_margin)::float8 * 1000 as ms
            from mooring.setting s`
        await pause(bench.quick ? 2_000 : setting!.ms)
        const after = await untilRunning(sql, ROWS)
        return {
          ended: before.filter((process) => !alive(process)).length,
          moved: moved(before, after),
        }
      })
      await removeDeployments(sql)
      return [
        {
          what: `Postgres restarted under ${ROWS}, within the lease: processes that ended`,
          unit: '',
          asked: { atMost: 0 },
          values: runs.map(({ ended }) => ended),
        },
        {
          what: 'the same: assignments that moved',
          unit: '',
          asked: { atMost: 0 },
          values: runs.map(({ moved }) => moved),
        },
      ]
    }),
  )
}

async function away(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      if (bench.quick)
        await sql`
          update mooring.setting
             set beat_interval = '500 ms', lease_ttl = '3 s', reap_margin = '500 ms'`
      await Promise.all([host.worker(), host.agent('host-a'), host.agent('host-b')])
      await insertCommands(sql, ROWS)
      const [{ lease_ms: leaseMs, beat_ms: beatMs }] = await sql<
        [{ lease_ms: number; beat_ms: number }]
      >`
        select extract(epoch from s.lease_ttl)::float8 * 1000 as lease_ms,
               extract(epoch from s.beat_interval)::float8 * 1000 as beat_ms
          from mooring.setting s`
      const runs = await repeat(bench, async (run) => {
        bench.say(`Postgres is away for longer than the lease, run ${run}`)
        const before = await untilRunning(sql, ROWS, PATIENCE_MS)
        const endsAtMs = await leaseEnds(database.sql, beatMs)
        const deaths = lastDeaths(before)
        await database.restart(leaseMs + 2_000)
        const answeredAtMs = Date.now()
        const diedAtMs = deaths.stop()
        const after = await untilRunning(sql, ROWS, PATIENCE_MS)
        const backMs = Date.now() - answeredAtMs
        assertEqual(
          after.filter((process) =>
            before.some((was) => was.pid === process.pid && was.startTicks === process.startTicks),
          ).length,
          0,
          'processes that outlived the lease',
        )
        return {
          earlyMs: Math.min(...[...endsAtMs].map(([node, endMs]) => endMs - diedAtMs.get(node)!)),
          backMs,
          moved: moved(before, after),
        }
      })
      await removeDeployments(sql)
      return [
        {
          what:
            `Postgres away for longer than the lease: last of ${ROWS} dead before its ` +
            'lease ended by',
          unit: 'ms',
          asked: { atLeast: 0 },
          values: runs.map(({ earlyMs }) => earlyMs),
          note: 'by the kernel, looked at every 5 ms',
        },
        {
          what: 'the same: Postgres answers -> all running again',
          unit: 'ms',
          asked: { atMost: beatMs },
          values: runs.map(({ backMs }) => backMs),
          note: 'asked: one beat',
        },
        {
          what: 'the same: assignments that moved',
          unit: '',
          asked: { atMost: 0 },
          values: runs.map(({ moved }) => moved),
        },
      ]
    }),
  )
}

/**
 * Epoch milliseconds at which each node's lease ends if its last beat was its last; returns when no
 * beat is due for a moment.
 */
async function leaseEnds(sql: Sql, beatMs: number): Promise<Map<string, number>> {
  for (;;) {
    const rows = await sql<{ node: string; age_ms: number; ends_at_ms: number }[]>`
      select h.node, extract(epoch from clock_timestamp() - h.beat_at)::float8 * 1000 as age_ms,
             extract(epoch from h.beat_at + h.lease_ttl)::float8 * 1000 as ends_at_ms
        from mooring.heartbeat h
       where h.session is not null`
    if (rows.every(({ age_ms }) => age_ms < beatMs * 0.6))
      return new Map(rows.map(({ node, ends_at_ms }) => [node, ends_at_ms]))
    await pause(20)
  }
}

/** When the last process of each node was observed to be gone, in epoch milliseconds. */
function lastDeaths(processes: readonly Running[]): { stop(): Map<string, number> } {
  const seenAlive = new Map<string, number>()
  const look = (): void => {
    for (const process of processes) if (alive(process)) seenAlive.set(process.node, Date.now())
  }
  look()
  const timer = setInterval(look, 5)
  return {
    stop() {
      clearInterval(timer)
      return seenAlive
    },
  }
}

const moved = (before: readonly Running[], after: readonly Running[]): number =>
  before.filter(
    ({ assignment_id, node, epoch }) =>
      !after.some(
        (now) => now.assignment_id === assignment_id && now.node === node && now.epoch === epoch,
      ),
  ).length
