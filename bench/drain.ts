/**
 * A host with 100 running deployments is drained. Start-first there is no moment with fewer than
 * 100 running; stop-first there are as many fewer as are on their way. Observed by another session
 * that asks all the while; the real processes are looked at in test/e2e/handover.test.ts.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { assertEqual, repeat, type Bench, type Benchmark, type Figure } from './benchmark.js'
import { countRunning, hintsOf, removeDeployments } from './workload.js'

export const benchmarks: Benchmark[] = [{ name: 'drain', spawns: true, run: drain }]

const PATIENCE_MS = 300_000

interface Drained {
  fewest: number
  samples: number
  took_ms: number
}

async function drain(bench: Bench): Promise<Figure[]> {
  const rows = bench.size(100, 6)
  const atATime = bench.size(20, 3)
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      if (bench.quick)
        await sql`update mooring.setting set handover_settle = '100 ms', round_interval = '200 ms'`
      await Promise.all([
        host.worker(),
        host.agent('host-a'),
        host.agent('host-b'),
        host.agent('host-c'),
      ])
      const hints = await hintsOf(database)
      const watcher = database.connect(1, 'bench: watcher')
      const measure = async (handover: string): Promise<Drained> => {
        await sql`update mooring.node n set draining_since = null, enabled = n.name = 'host-a'`
        await sql`
          insert into mooring.deployment (command, args, on_lost, handover)
          select '/bin/sleep', '["1000000"]', 'keep', ${handover}
            from generate_series(1, ${rows}::int)`
        await hints.until(async () => (await countRunning(sql)) === rows)
        await sql`update mooring.node set enabled = true`
        const result: Drained = { fewest: rows, samples: 0, took_ms: 0 }
        const start = performance.now()
        await sql`select from mooring.drain_node('host-a', max_moves => ${atATime}::int)`
        for (let done = false; !done; result.samples++) {
          const [now] = await watcher<{ n: number; done: boolean }[]>`
            select count(*) filter (where p.run_state = 'running')::int as n,
                   (
                     select d.done and d.moving = 0
                       from mooring.drain_progress d
                      where d.node = 'host-a'
                   ) as done
              from mooring.placement p`
          result.fewest = Math.min(result.fewest, now!.n)
          done = now!.done
          if (performance.now() - start > PATIENCE_MS)
            throw new Error(`${rows} were not drained within ${PATIENCE_MS} ms`)
          await pause(2)
        }
        result.took_ms = performance.now() - start
        assertEqual(await countRunning(sql), rows, 'running at the end')
        const owners = await sql<
          { node: string }[]
        >`select distinct p.node from mooring.placement p order by 1`
        assertEqual(owners.map(({ node }) => node).join(' '), 'host-b host-c', 'who runs it')
        await removeDeployments(sql)
        return result
      }
      const runs = await repeat(bench, async (run) => {
        bench.say(`a host with ${rows} is drained, ${atATime} at a time, run ${run}`)
        return { start: await measure('start-first'), stop: await measure('stop-first') }
      })
      return [
        {
          what: `drain of ${rows} start-first, ${atATime} at a time: fewest ever seen running`,
          unit: '',
          asked: { atLeast: rows },
          values: runs.map(({ start }) => start.fewest),
          note: `${runs[0]!.start.samples} samples in the first run`,
        },
        {
          what: 'the same, until the host is empty',
          unit: 'ms',
          values: runs.map(({ start }) => start.took_ms),
          note: 'handover_settle included',
        },
        {
          what: 'the same stop-first: fewest ever seen running',
          unit: '',
          values: runs.map(({ stop }) => stop.fewest),
        },
        {
          what: 'the same, until the host is empty',
          unit: 'ms',
          values: runs.map(({ stop }) => stop.took_ms),
        },
      ]
    }),
  )
}
