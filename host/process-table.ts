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
  const members = new Map<number, Process>()
  for (const p of table.values()) {
    if (p.pid === process.pid) continue
    const inGroup = ownGroup && (p.pgid === root.pid || p.sid === root.pid)
    if (inGroup || known.get(p.pid) === p.startTicks || carriesRunId(p, root)) members.set(p.pid, p)
  }
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

/** Every process whose MOORING_RUN starts with `prefix` and not with `except`. */
export function withRunIdPrefix(
  prefix: string,
  table: ReadonlyMap<number, Process> = processTable(),
  except?: string,
): Process[] {
  const fits = (entry: string): boolean =>
    entry.startsWith(`MOORING_RUN=${prefix}`) &&
    (except === undefined || !entry.startsWith(`MOORING_RUN=${except}`))
  return [...table.values()].filter(
    (p) => p.pid !== process.pid && !p.kernel && environmentOf(p.pid).some(fits),
  )
}

/**
 * Adds the descendants of the members, at any depth. Repeats until nothing is added, because a
 * child is listed before its parent after the pids have wrapped.
 */
export function addDescendants(
  members: Map<number, Process>,
  table: ReadonlyMap<number, Process>,
): void {
  if (members.size === 0) return
  for (let grown = true; grown;) {
    grown = false
    for (const p of table.values()) {
      if (members.has(p.pid) || !members.has(p.ppid) || p.pid === process.pid) continue
      members.set(p.pid, p)
      grown = true
    }
  }
}

function carriesRunId(p: Process, root: TreeRoot): boolean {
  // A process older than the root cannot carry its run id. This saves nearly all reads.
  if (p.kernel || (root.startTicks !== null && p.startTicks < root.startTicks)) return false
  return environmentOf(p.pid).includes(`MOORING_RUN=${root.runId}`)
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
  if (!hasProc) return table
  for (const entry of readdirSync('/proc')) {
    const first = entry.charCodeAt(0)
    if (first < 48 || first > 57) continue
    const p = readProcess(Number(entry))
    if (p) table.set(p.pid, p)
  }
  return table
}
