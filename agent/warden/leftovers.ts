/**
 * Ends processes that an earlier life of this agent left without a warden. The agent calls it when
 * the database has let it in, and starts nothing before, because a new instance must not run beside
 * them. They are found by what is in their environment: the run id of this folder, or the owner,
 * which an agent with another folder has given them. The process files of this folder find those
 * that lost their environment. See README.md, "Leftovers".
 */
import type { Logger } from 'pino'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  OWNER_VARIABLE,
  runIdPrefix,
  readBootId,
  readProcessFiles,
  removeProcessFilesExcept,
} from '../../state-folder/process-files.js'
import type { ProcessFile } from '../../state-folder/process-files.js'
import {
  addDescendants,
  withEnvironment,
  membersOf,
  processTable,
} from '../../host/process-table.js'
import type { Process, KnownMembers } from '../../host/process-table.js'
import { signalProcess } from './process-tree.js'
import { stopTree } from './stop-tree.js'

/** Short, because the lease of these processes may have ended already. */
export const LEFTOVER_GRACE_MS = 1_000

export interface LeftoverOptions {
  graceMs?: number
  /** Processes whose run id has this prefix stay, because a warden looks after them. */
  keep?: string
  /** ownerMark(): processes of this owner end too, whatever folder their agent had. */
  owner?: string
}

/** Resolves when all of them are gone, with the number of processes that were found. */
export async function killLeftovers(
  stateDir: string,
  log: Logger,
  { graceMs = LEFTOVER_GRACE_MS, keep, owner }: LeftoverOptions = {},
): Promise<number> {
  mkdirSync(join(stateDir, 'runs'), { recursive: true, mode: 0o700 })
  const isKept = (file: ProcessFile): boolean => keep !== undefined && file.run_id.startsWith(keep)
  const prefix = runIdPrefix(stateDir)
  // those of a folder that was copied or moved name processes of another agent
  const files = readProcessFiles(stateDir).filter((file) => file.run_id.startsWith(prefix))
  const bootId = readBootId()
  // the process table is cached per turn: an older one lacks what was started since
  await nextTurn()
  const find = finder(
    prefix,
    files.filter((file) => !isKept(file) && file.boot_id === bootId),
    { keep, owner },
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
  removeProcessFilesExcept(stateDir, files.filter(isKept))
  return found.length
}

/** SIGKILL to every process whose run id has this prefix, until none is left. */
export async function killByRunId(prefix: string, log: Logger): Promise<void> {
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

function finder(
  prefix: string,
  files: readonly ProcessFile[],
  { keep, owner }: { keep?: string | undefined; owner?: string | undefined } = {},
): () => Process[] {
  const seenBy = new Map<string, KnownMembers>(files.map((file) => [file.run_id, new Map()]))
  const runs = (entry: string, of: string): boolean => entry.startsWith(`MOORING_RUN=${of}`)
  const isLeft = (environment: readonly string[]): boolean =>
    (keep === undefined || !environment.some((entry) => runs(entry, keep))) &&
    environment.some(
      (entry) =>
        runs(entry, prefix) || (owner !== undefined && entry === `${OWNER_VARIABLE}=${owner}`),
    )
  // a process that is ending loses its environment before it is gone
  const byEnvironment: KnownMembers = new Map()
  return () => {
    const table = processTable()
    const members = new Map<number, Process>()
    for (const file of files) {
      const root = {
        pid: file.pid,
        startTicks: file.start_ticks,
        runId: file.run_id,
        groupOutlivesRoot: false,
      }
      for (const p of membersOf(root, seenBy.get(file.run_id)!, table)) members.set(p.pid, p)
    }
    for (const p of withEnvironment(isLeft, table)) byEnvironment.set(p.pid, p.startTicks)
    for (const [pid, startTicks] of byEnvironment) {
      const p = table.get(pid)
      if (p?.startTicks === startTicks) members.set(pid, p)
    }
    addDescendants(members, table)
    return [...members.values()]
  }
}
