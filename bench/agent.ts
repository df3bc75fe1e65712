/** What an agent that is killed costs its work, and what its warden costs the host. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { readProcess } from '../host/process-table.js'
import { elapsedMs, repeat, type Bench, type Benchmark, type Figure } from './benchmark.js'
import { alive, insertCommands, removeDeployments, untilRunning } from './workload.js'

export const benchmarks: Benchmark[] = [
  { name: 'agent/killed', spawns: true, run: killed },
  { name: 'agent/warden', spawns: true, run: warden },
]

const ROWS = 21
/** Longer than a lease: what is in use then is not the end of the start. */
const IDLE_MS = 20_000
const TICKS_PER_SECOND = 100

/** SIGKILL to the agent alone, started again at once as a supervisor does. */
async function killed(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      await host.worker()
      let agent = await host.agent('host-a')
      await insertCommands(sql, ROWS)
      const runs = await repeat(bench, async (run) => {
        bench.say(`an agent with ${ROWS} is killed, run ${run}`)
        const before = await untilRunning(sql, ROWS)
        await agent.kill()
        const backMs = await elapsedMs(async () => {
          agent = await host.agent('host-a')
        })
        // two beats: what the next session did not take over would be ended by now
        await pause(bench.quick ? 1_000 : 6_000)
        const ended = before.filter((process) => !alive(process)).length
        return { backMs, ended }
      })
      await removeDeployments(sql)
      return [
        {
          what: `agent of ${ROWS} killed, started again at once: processes that ended`,
          unit: '',
          asked: { atMost: 0 },
          values: runs.map(({ ended }) => ended),
        },
        {
          what: 'the same: start of the next agent -> registered, everything taken over',
          unit: 'ms',
          asked: { atMost: 1000 },
          values: runs.map(({ backMs }) => backMs),
        },
      ]
    }),
  )
}

async function warden(bench: Bench): Promise<Figure[]> {
  return bench.inDatabase((database) =>
    bench.onHost(database, async (host) => {
      const { sql } = database
      await Promise.all([host.worker(), host.agent('host-a')])
      await insertCommands(sql, ROWS)
      await untilRunning(sql, ROWS)
      const { pid } = JSON.parse(
        readFileSync(join(host.folder, 'agents', 'host-a', 'warden.json'), 'utf8'),
      ) as { pid: number }
      const seen = await repeat(bench, async (run) => {
        bench.say(`a warden with ${ROWS} idles, run ${run}`)
        const idleMs = bench.quick ? 1_000 : IDLE_MS
        const before = readProcess(pid)!.cpuTicks
        await pause(idleMs)
        return {
          cpuPct:
            ((readProcess(pid)!.cpuTicks - before) / TICKS_PER_SECOND / (idleMs / 1000)) * 100,
          ...memoryOf(pid),
        }
      })
      await removeDeployments(sql)
      return [
        {
          what: `warden of ${ROWS}: cpu while idle, of one core`,
          unit: '%',
          values: seen.map(({ cpuPct }) => cpuPct),
          note: 'asked: not measurable; the grain is 0.05',
        },
        {
          what: 'the same: resident',
          unit: 'MB',
          asked: { atMost: 50 },
          values: seen.map(({ rssMb }) => rssMb),
        },
        {
          what: 'the same: its share of what is resident (PSS)',
          unit: 'MB',
          values: seen.map(({ pssMb }) => pssMb),
        },
      ]
    }),
  )
}

function memoryOf(pid: number): { rssMb: number; pssMb: number } {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const mb = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(rollup)![1]) / 1024
  return { rssMb: mb('Rss'), pssMb: mb('Pss') }
}
