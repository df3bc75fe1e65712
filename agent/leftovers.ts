/**
 * What an earlier life of this agent left running is ended before the agent registers: nobody supervises it, and a new copy must not meet it.
 *
 * Found by the run files (pid with start time) and by the mark in the environment, so trees whose leader died, and starts whose file was never written,
 * are found too. Nothing else is touched, whatever number a file holds.
 */
import type { Logger } from 'pino'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { markPrefix, readBootId, readRunFiles } from './run-file.js'
import { addDescendants, markedWith, membersOf, processTable } from './process-table.js'
import type { Process, Seen } from './process-table.js'
import { signalProcess } from './spawn.js'
import { stopTree } from './stop-tree.js'

/** Short: the lease of these processes may be over already. */
export const LEFTOVER_GRACE_MS = 1_000

/** Resolves with the number of processes that were found, when all of them are gone. */
export async function killLeftovers(stateDir: string, log: Logger, graceMs = LEFTOVER_GRACE_MS): Promise<number> {
  mkdirSync(join(stateDir, 'runs'), { recursive: true })
  const find = finder(stateDir)
  const found = find()
  if (found.length > 0) {
    log.warn({ event: 'leftovers_found', pids: found.map(p => p.pid) }, 'an earlier life of this agent left processes running; ending them')
    const signalTree = (signal: NodeJS.Signals): void => find().forEach(p => signalProcess(p, signal))
    const tree = { signalTree, treeAlive: () => find().length > 0, exit: Promise.resolve({ code: null, signal: null, error: null }) }
    await stopTree(tree, graceMs, log).done
    log.info({ event: 'leftovers_gone', count: found.length }, 'leftover processes are gone')
  }
  rmSync(join(stateDir, 'runs'), { recursive: true, force: true })
  mkdirSync(join(stateDir, 'runs'))
  return found.length
}

function finder(stateDir: string): () => Process[] {
  const prefix = markPrefix(stateDir)
  const bootId = readBootId()
  const runs = readRunFiles(stateDir).filter(run => run.boot_id === bootId)
  const seenBy = new Map<string, Seen>(runs.map(run => [run.mark, new Map()]))
  // A process that is ending loses its environment before it is gone.
  const marked: Seen = new Map()
  return () => {
    const table = processTable()
    const members = new Map<number, Process>()
    for (const run of runs) {
      const root = { pid: run.pid, startTicks: run.start_ticks, mark: run.mark, groupOutlivesRoot: false }
      for (const p of membersOf(root, seenBy.get(run.mark)!, table)) members.set(p.pid, p)
    }
    for (const p of markedWith(prefix, table)) marked.set(p.pid, p.startTicks)
    for (const [pid, startTicks] of marked) {
      const p = table.get(pid)
      if (p?.startTicks === startTicks) members.set(pid, p)
    }
    addDescendants(members, table)
    return [...members.values()]
  }
}
