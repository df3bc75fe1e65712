/**
 * All processes of this host as /proc shows them, and which of them belong to one workload.
 *
 * A workload is more than its process group: a grandchild may call setsid and outlive its parent. So a tree is everything that
 *   - is in the process group or session of the root (the root is started as leader of both), or
 *   - was started by something of the tree, or
 *   - carries the run's own mark in its environment (MOORING_RUN, unique per start), or
 *   - was seen to belong on an earlier look: its parents may have died since.
 * What sheds its environment, its session and its parent between two looks is not found; that takes a cgroup or a PID namespace.
 *
 * A pid alone is never trusted: the kernel gives numbers out again, so a process is known by pid and start time.
 * Reading is synchronous on purpose: files in /proc are memory (about 20 microseconds each), and a look must not be stretched over other events.
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
  /** By a signal or by a debugger: it does nothing until it is told to go on. */
  stopped: boolean
  /** A kernel thread: has no memory, no environment and no business here. */
  kernel: boolean
}

export interface TreeRoot {
  pid: number
  startTicks: number | null
  /** Value of MOORING_RUN in the environment of everything started by it. */
  runId: string
  /**
   * Is the group still its own when the root itself is gone? True where its end was witnessed. False for a root read from a file: its number may have been
   * given to another program that made a session and ended, as daemons do.
   */
  groupOutlivesRoot: boolean
}

/** Processes seen to belong to a tree, pid -> start time. Kept by whoever looks more than once. */
export type Seen = Map<number, number>

export const hasProc = process.platform === 'linux'

/** Alive processes by pid; zombies are gone. Taken at most once per turn of the event loop, so stopping a hundred trees at once is one look. */
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

/** Null when there is no such process, or it is a zombie. */
export function readProcess(pid: number): Process | null {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return null
  }
  // pid (name) state ppid ...: the name may hold spaces and parentheses, the fields after its last parenthesis not. Numbers as in proc(5), from field 3.
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const at = (number: number): number => Number(field[number - 3])
  const state = field[0]
  const threads = at(20)
  // The first thread may have ended before the others: then the process is alive although it looks like a zombie.
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

/** Everything alive of a tree; adds what it finds to `seen`. */
export function membersOf(
  root: TreeRoot,
  seen: Seen,
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
    if (inGroup || seen.get(p.pid) === p.startTicks || carriesRunId(p, root)) members.set(p.pid, p)
  }
  addDescendants(members, table)
  for (const p of members.values()) seen.set(p.pid, p.startTicks)
  return [...members.values()]
}

/** Pids of what it started itself, oldest first. */
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

/** Every process whose MOORING_RUN starts with `prefix`, and not with `but`. */
export function withRunIdPrefix(
  prefix: string,
  table: ReadonlyMap<number, Process> = processTable(),
  but?: string,
): Process[] {
  const fits = (entry: string): boolean =>
    entry.startsWith(`MOORING_RUN=${prefix}`) &&
    (but === undefined || !entry.startsWith(`MOORING_RUN=${but}`))
  return [...table.values()].filter(
    (p) => p.pid !== process.pid && !p.kernel && environmentOf(p.pid).some(fits),
  )
}

/** Adds to `members` all that they started, at any depth. A child is listed before its parent when pids wrapped, hence the repetition. */
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
  // Older than the root, or a kernel thread: not started by it. Saves nearly all reads of environments.
  if (p.kernel || (root.startTicks !== null && p.startTicks < root.startTicks)) return false
  return environmentOf(p.pid).includes(`MOORING_RUN=${root.runId}`)
}

/** As it was when the program was started. Empty for processes of other users and such as have just ended. */
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
