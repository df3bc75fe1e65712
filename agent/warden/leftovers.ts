/**
 * What an earlier life of this agent left running, and no warden looks after any more, is ended before the agent registers: a new copy must not meet it.
 *
 * Found by the run files (pid with start time) and by the mark in the environment, so trees whose leader died, and starts whose file was never written,
 * are found too. Nothing else is touched, whatever number a file holds.
 */
import type { Logger } from 'pino'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  markPrefix,
  readBootId,
  readRunFiles,
  removeRunFilesBut,
} from '../../state-folder/process-files.js'
import type { RunFile } from '../../state-folder/process-files.js'
import { addDescendants, markedWith, membersOf, processTable } from '../../host/process-table.js'
import type { Process, KnownMembers } from '../../host/process-table.js'
import { signalProcess } from './process-tree.js'
import { stopTree } from './stop-tree.js'

/** Short: the lease of these processes may be over already. */
export const LEFTOVER_GRACE_MS = 1_000

export interface LeftoverOptions {
  graceMs?: number
  /** What carries a mark that begins so is in good hands, and stays. */
  keep?: string
}

/** Resolves with the number of processes that were found, when all of them are gone. */
export async function killLeftovers(
  stateDir: string,
  log: Logger,
  { graceMs = LEFTOVER_GRACE_MS, keep }: LeftoverOptions = {},
): Promise<number> {
  mkdirSync(join(stateDir, 'runs'), { recursive: true })
  const isKept = (run: RunFile): boolean => keep !== undefined && run.mark.startsWith(keep)
  const runs = readRunFiles(stateDir)
  const bootId = readBootId()
  // a table that was taken earlier in this turn knows nothing of what was started since
  await nextTurn()
  const find = finder(
    markPrefix(stateDir),
    runs.filter((run) => !isKept(run) && run.boot_id === bootId),
    keep,
  )
  const found = find()
  if (found.length > 0) {
    log.warn(
      { event: 'leftovers_found', pids: found.map((p) => p.pid) },
      'an earlier life of this agent left processes running; ending them',
    )
    await end(find, graceMs, log)
    log.info({ event: 'leftovers_gone', count: found.length }, 'leftover processes are gone')
  }
  removeRunFilesBut(stateDir, runs.filter(isKept))
  return found.length
}

/** SIGKILL to everything whose mark begins so, until nothing is left. */
export async function killMarked(prefix: string, log: Logger): Promise<void> {
  await end(finder(prefix, []), 0, log)
}

async function end(find: () => Process[], graceMs: number, log: Logger): Promise<void> {
  const tree = {
    signalTree: (signal: NodeJS.Signals): void => find().forEach((p) => signalProcess(p, signal)),
    treeAlive: () => find().length > 0,
    exit: Promise.resolve(),
  }
  await stopTree(tree, graceMs, () =>
    log.error(
      { event: 'process_unkillable', pids: find().map((p) => p.pid) },
      'a process of an earlier life does not end on SIGKILL; this agent registers when it has',
    ),
  ).done
}

function finder(prefix: string, runs: readonly RunFile[], keep?: string): () => Process[] {
  const seenBy = new Map<string, KnownMembers>(runs.map((run) => [run.mark, new Map()]))
  // A process that is ending loses its environment before it is gone.
  const marked: KnownMembers = new Map()
  return () => {
    const table = processTable()
    const members = new Map<number, Process>()
    for (const run of runs) {
      const root = {
        pid: run.pid,
        startTicks: run.start_ticks,
        mark: run.mark,
        groupOutlivesRoot: false,
      }
      for (const p of membersOf(root, seenBy.get(run.mark)!, table)) members.set(p.pid, p)
    }
    for (const p of markedWith(prefix, table, keep)) marked.set(p.pid, p.startTicks)
    for (const [pid, startTicks] of marked) {
      const p = table.get(pid)
      if (p?.startTicks === startTicks) members.set(pid, p)
    }
    addDescendants(members, table)
    return [...members.values()]
  }
}
