/**
 * All processes of this host as /proc shows them, and which of them belong to one workload.
 *
 * A workload is more than a process group: a grandchild may call setsid and outlive its parent.
 * So a process belongs to the tree of a root when one of these holds:
 *   - it is in the process group or session of the root, which leads both;
 *   - a member of the tree started it;
 *   - its environment carries the mark of this start (MOORING_RUN, unique for each start);
 *   - an earlier scan found it, even if its parents have died since.
 * A process that sheds environment, session and parent between two scans is not found.
 * Finding it takes a cgroup or a PID namespace.
 *
 * A process is identified by pid and start time, because the kernel reuses pids.
 * Reading is synchronous because a file in /proc is memory (about 20 microseconds each), and
 * because no other event may run in the middle of a scan.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { bootClock } from './boot-clock.js'

export interface Process {
  pid: number
  ppid: number
  pgid: number
  sid: number
  /** Clock ticks after boot. */
  startTicks: number
  /** User and system time of this process, without its children, in clock ticks. */
  cpuTicks: number
  rssPages: number
  /** Stopped by a signal or a debugger; it runs again after SIGCONT. */
  stopped: boolean
  /** A kernel thread has no memory and no environment, and belongs to no workload. */
  kernel: boolean
}

export interface TreeRoot {
  pid: number
  startTicks: number | null
  /** Value of MOORING_RUN in the environment of everything the root starts. */
  runId: string
  /**
   * Whether the group still belongs to the tree after the root has ended. True when this process
   * observed that end. False for a root read from a file, because its pid may have gone to
   * another program that made a session and ended, as daemons do.
   */
  groupOutlivesRoot: boolean
}

/** Members of a tree found by earlier scans, pid -> start time. The caller keeps it. */
export type KnownMembers = Map<number, number>

export const hasProc = process.platform === 'linux'

/**
 * Living processes by pid, without zombies. Read at most once per turn of the event loop, so
 * that stopping a hundred trees at once reads /proc once.
 */
export function processTable(): ReadonlyMap<number, Process> {
  if (cached === undefined) {
    cached = readTable()
    setImmediate(() => {
      cached = undefined
    })
  }
  return cached
}
let cached: Map<number, Process> | undefined

/** Entries of /proc that one turn may read: some milliseconds. */
const READ_IN_A_TURN = 250

/** As processTable(), read over several turns of the event loop: no snapshot of one instant. */
export async function processTableOverTurns(): Promise<ReadonlyMap<number, Process>> {
  const table = new Map<number, Process>()
  const pids = listedPids()
  for (const [nr, pid] of pids.entries()) {
    const p = readProcess(pid)
    if (p) table.set(pid, p)
    if (nr % READ_IN_A_TURN === READ_IN_A_TURN - 1) await nextTurn()
  }
  return table
}

/** Null for a zombie and for a process that does not exist. */
export function readProcess(pid: number): Process | null {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return null
  }
  // pid (name) state ppid ...: the name may hold spaces and parentheses, so fields are counted
  // after the last parenthesis. Numbers as in proc(5), from field 3.
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const at = (number: number): number => Number(field[number - 3])
  const state = field[0]
  const threads = at(20)
  // A process whose first thread ended before the others looks like a zombie, but lives.
  if ((state === 'Z' && threads <= 1) || state === 'X') return null
  return {
    pid,
    ppid: at(4),
    pgid: at(5),
    sid: at(6),
    startTicks: at(22),
    cpuTicks: at(14) + at(15),
    rssPages: at(24),
    stopped: state === 'T' || state === 't',
    kernel: at(23) === 0,
  }
}

/** The living members of a tree. Adds them to `known`. */
export function membersOf(
  root: TreeRoot,
  known: KnownMembers,
  table: ReadonlyMap<number, Process> = processTable(),
): Process[] {
  const atRootPid = table.get(root.pid)
  const ownGroup =
    root.startTicks !== null &&
    (atRootPid === undefined ? root.groupOutlivesRoot : atRootPid.startTicks === root.startTicks)
  const { groups, sessions } = indexOf(table)
  const members = new Map<number, Process>()
  const add = (p: Process | undefined): void => {
    if (p !== undefined && p.pid !== process.pid) members.set(p.pid, p)
  }
  if (ownGroup) for (const index of [groups, sessions]) index.get(root.pid)?.forEach(add)
  for (const [pid, startTicks] of known)
    if (table.get(pid)?.startTicks === startTicks) add(table.get(pid))
  for (const p of runIdsIn(table).get(root.runId) ?? [])
    // a process older than the root cannot carry its run id
    if (root.startTicks === null || p.startTicks >= root.startTicks) add(p)
  addDescendants(members, table)
  for (const p of members.values()) known.set(p.pid, p.startTicks)
  return [...members.values()]
}

/** Pids of the direct children, oldest first. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')
      .trim()
      .split(' ')
      .filter((child) => child !== '')
      .map(Number)
  } catch {
    return [...processTable().values()].filter((p) => p.ppid === pid).map((p) => p.pid)
  }
}

/** The living descendants of these processes, at any depth. Reads nothing of any other process. */
export function descendantsOf(pids: readonly number[]): Process[] {
  const seen = new Set(pids)
  const found: Process[] = []
  // a set goes on with what is added while it is walked
  for (const parent of seen)
    for (const pid of childrenOf(parent)) {
      const p = seen.has(pid) ? null : readProcess(pid)
      seen.add(pid)
      if (p) found.push(p)
    }
  return found
}

/** Every process whose environment, entry by entry, fits. */
export function withEnvironment(
  fits: (environment: readonly string[]) => boolean,
  table: ReadonlyMap<number, Process> = processTable(),
): Process[] {
  return [...table.values()].filter(
    (p) => p.pid !== process.pid && !p.kernel && fits(environmentOf(p.pid)),
  )
}

/** Every process whose MOORING_RUN starts with `prefix`. */
export function withRunIdPrefix(prefix: string): Process[] {
  return withEnvironment((environment) =>
    environment.some((entry) => entry.startsWith(`MOORING_RUN=${prefix}`)),
  )
}

/** Adds the descendants of the members, at any depth. */
export function addDescendants(
  members: Map<number, Process>,
  table: ReadonlyMap<number, Process>,
): void {
  const parents = [...members.keys()]
  if (parents.length === 0) return
  const { children } = indexOf(table)
  for (let parent = parents.pop(); parent !== undefined; parent = parents.pop())
    for (const p of children.get(parent) ?? []) {
      if (members.has(p.pid) || p.pid === process.pid) continue
      members.set(p.pid, p)
      parents.push(p.pid)
    }
}

interface TableIndex {
  children: ReadonlyMap<number, readonly Process[]>
  groups: ReadonlyMap<number, readonly Process[]>
  sessions: ReadonlyMap<number, readonly Process[]>
}

/** Made once for each table: a host may look up a thousand trees in it at once. */
const indexes = new WeakMap<ReadonlyMap<number, Process>, TableIndex>()

function indexOf(table: ReadonlyMap<number, Process>): TableIndex {
  let index = indexes.get(table)
  if (index === undefined) {
    const by = (key: (p: Process) => number) => groupBy(table.values(), (p) => [key(p)])
    index = { children: by((p) => p.ppid), groups: by((p) => p.pgid), sessions: by((p) => p.sid) }
    indexes.set(table, index)
  }
  return index
}

/** Map.groupBy() comes with Node 21. */
function groupBy<K>(
  processes: Iterable<Process>,
  keysOf: (p: Process) => readonly K[],
): Map<K, Process[]> {
  const groups = new Map<K, Process[]>()
  for (const p of processes)
    for (const key of keysOf(p)) {
      const group = groups.get(key)
      if (group === undefined) groups.set(key, [p])
      else group.push(p)
    }
  return groups
}

/** Run ids by process: reading an environment costs more than everything else in a scan. */
let runIdsOf = new Map<number, { startTicks: number; ids: readonly string[] }>()
const byRunId = new WeakMap<ReadonlyMap<number, Process>, Map<string, Process[]>>()
/**
 * A process that carries no run id is read again until it is so old: between fork and exec it still
 * shows the environment of its parent.
 */
const SETTLED_TICKS = 200

function runIdsIn(table: ReadonlyMap<number, Process>): Map<string, Process[]> {
  const known = byRunId.get(table)
  if (known !== undefined) return known
  const nowTicks = bootClock() / 10
  const idsOf = new Map<Process, readonly string[]>()
  const kept: typeof runIdsOf = new Map()
  for (const p of table.values()) {
    if (p.kernel) continue
    const before = runIdsOf.get(p.pid)
    const ids =
      before?.startTicks === p.startTicks
        ? before.ids
        : environmentOf(p.pid).flatMap((entry) =>
            entry.startsWith('MOORING_RUN=') ? [entry.slice('MOORING_RUN='.length)] : [],
          )
    if (ids.length > 0 || p.startTicks < nowTicks - SETTLED_TICKS)
      kept.set(p.pid, { startTicks: p.startTicks, ids })
    idsOf.set(p, ids)
  }
  const found = groupBy(idsOf.keys(), (p) => idsOf.get(p)!)
  runIdsOf = kept
  byRunId.set(table, found)
  return found
}

/**
 * The environment at the start of the program. Empty for processes of other users, and for
 * processes that have just ended.
 */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
  } catch {
    return []
  }
}

function readTable(): Map<number, Process> {
  const table = new Map<number, Process>()
  for (const pid of listedPids()) {
    const p = readProcess(pid)
    if (p) table.set(pid, p)
  }
  return table
}

function listedPids(): number[] {
  if (!hasProc) return []
  return readdirSync('/proc')
    .filter((entry) => /^\d/.test(entry))
    .map(Number)
}
