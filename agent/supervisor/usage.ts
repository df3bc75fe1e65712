/**
 * What the agent and everything it runs use of this host, sampled for the heartbeat.
 *
 * cpu_pct     share of the whole machine, 0..100, since the previous sample; null at the first one
 * memory_mb   resident MiB; a page that several processes share counts for each of them
 * disk_*      of the file system that holds the agent's state
 *
 * What cannot be measured is null, never 0, because 0 is the best score and draws work to the node.
 * A process that begins and ends between two samples is not counted.
 */
import { readFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import type { UsageSample } from '../rows.js'
import { raceDeadline } from '../../host/deadline.js'
import { addDescendants, processTableOverTurns } from '../../host/process-table.js'
import type { Process } from '../../host/process-table.js'

export interface UsageSampler {
  /**
   * `rootPids` are the roots of the workloads. Their process groups and sessions count, even when
   * the leader is gone. Never rejects.
   */
  sample(rootPids: readonly number[]): Promise<UsageSample>
}

interface CpuReading {
  machineTicks: number
  /** `pid:start` -> own ticks. */
  ticks: Map<string, number>
}

type DiskFree = Pick<UsageSample, 'disk_free_pct' | 'disk_free_bytes'>

const NOT_MEASURED: DiskFree = { disk_free_pct: null, disk_free_bytes: null }
const DISK_DEADLINE_MS = 200

export function createUsageSampler({ stateDir }: { stateDir: string }): UsageSampler {
  const pageBytes = readPageBytes()
  let previous: CpuReading | null = null
  let asking: Promise<DiskFree> | null = null

  /** A network disk may not answer. Then one statfs() waits for it, and no heartbeat does. */
  async function diskFreeInTime(): Promise<DiskFree> {
    asking ??= diskFree(stateDir).finally(() => {
      asking = null
    })
    return await raceDeadline(DISK_DEADLINE_MS, asking, () => NOT_MEASURED)
  }

  return {
    async sample(rootPids) {
      const members = await agentAndWorkloads(rootPids)
      const reading = members && readCpu(members)
      const cpu_pct = reading && previous ? cpuShare(previous, reading) : null
      previous = reading
      const memory_mb =
        members && pageBytes
          ? (members.reduce((sum, p) => sum + p.rssPages, 0) * pageBytes) / 1024 ** 2
          : null
      return { cpu_pct, memory_mb, ...(await diskFreeInTime()) }
    },
  }
}

/** Over several turns: with a thousand workloads one turn of it would delay everything else. */
async function agentAndWorkloads(rootPids: readonly number[]): Promise<Process[] | null> {
  const table = await processTableOverTurns()
  const self = table.get(process.pid)
  if (!self) return null
  const roots = new Set(rootPids)
  const members = new Map([[process.pid, self]])
  for (const p of table.values()) {
    if (roots.has(p.pid) || roots.has(p.pgid) || roots.has(p.sid)) members.set(p.pid, p)
  }
  addDescendants(members, table)
  return [...members.values()]
}

function readCpu(members: readonly Process[]): CpuReading | null {
  try {
    // cpu user nice system idle iowait irq softirq steal guest guest_nice
    // the last two are part of user and nice
    const fields = readFileSync('/proc/stat', 'latin1')
      .split('\n', 1)[0]!
      .trim()
      .split(/\s+/)
      .slice(1, 9)
      .map(Number)
    const machineTicks = fields.reduce((sum, ticks) => sum + ticks, 0)
    return Number.isFinite(machineTicks)
      ? {
          machineTicks,
          ticks: new Map(members.map((p) => [`${p.pid}:${p.startTicks}`, p.cpuTicks])),
        }
      : null
  } catch {
    return null
  }
}

function cpuShare(before: CpuReading, now: CpuReading): number | null {
  const elapsed = now.machineTicks - before.machineTicks
  if (elapsed <= 0) return null
  let used = 0
  for (const [key, ticks] of now.ticks) used += Math.max(0, ticks - (before.ticks.get(key) ?? 0))
  return Math.min(100, (used / elapsed) * 100)
}

async function diskFree(folder: string): Promise<DiskFree> {
  try {
    const { blocks, bfree, bavail, bsize } = await statfs(folder)
    // like df: blocks reserved for root are neither free nor part of the whole
    const usable = blocks - bfree + bavail
    if (!(usable > 0)) return NOT_MEASURED
    return { disk_free_pct: (bavail / usable) * 100, disk_free_bytes: bavail * bsize }
  } catch {
    return NOT_MEASURED
  }
}

/** AT_PAGESZ of the auxiliary vector: mostly 4 KiB, on some arm64 kernels 16 or 64 KiB. */
function readPageBytes(): number | null {
  const AT_PAGESZ = 6n
  try {
    const vector = readFileSync('/proc/self/auxv')
    for (let at = 0; at + 16 <= vector.length; at += 16) {
      if (vector.readBigUInt64LE(at) === AT_PAGESZ) return Number(vector.readBigUInt64LE(at + 8))
    }
  } catch {
    // without /proc it stays unknown
  }
  return null
}
