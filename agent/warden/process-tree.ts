/**
 * A workload and everything it started, as something that can be signalled and asked whether it lives. A process that cannot be proven to be of the tree
 * is never signalled.
 */
import { hasProc, membersOf, readProcess } from '../../host/process-table.js'
import type { Process, KnownMembers, TreeRoot } from '../../host/process-table.js'
import type { Cell } from './namespace.js'

export interface ProcessTree {
  /** To all of the tree that is alive, wherever it went. */
  signalTree(signal: NodeJS.Signals): void
  /** Is anything of the tree alive? */
  treeAlive(): boolean
  /** Ends what contained it; to be called when nothing of it is alive. Resolves when that is gone too. */
  close(): Promise<void>
}

/**
 * unshare and init are of the tree for SIGKILL alone, which takes everything with them; for the rest they are the walls. Whatever is in there descends from init,
 * which is there as long as any of it.
 */
export function namespacedTree(
  root: TreeRoot,
  cell: Pick<Cell, 'init' | 'workload' | 'kill' | 'ended'>,
): ProcessTree {
  const seen: KnownMembers = new Map()
  const inside = (): Process[] => {
    const init = cell.init()
    if (init?.startTicks != null) seen.set(init.pid, init.startTicks)
    return membersOf(root, seen).filter((p) => p.pid !== root.pid && p.pid !== init?.pid)
  }
  return {
    signalTree(signal) {
      if (signal === 'SIGKILL') cell.kill()
      signalAll(inside(), cell.workload()?.pid ?? null, signal)
    },
    treeAlive: () => inside().length > 0,
    async close() {
      cell.kill()
      await cell.ended
    },
  }
}

/** `rootHeld`: the root has not been waited for yet, so its number cannot belong to anything else. */
export function processTree(root: TreeRoot, rootHeld: () => boolean): ProcessTree {
  const seen: KnownMembers = new Map()
  return {
    signalTree(signal) {
      // Looked for before anything is signalled: what the leader started in another session is lost sight of when the leader ends.
      signalAll(membersOf(root, seen), rootHeld() || !hasProc ? root.pid : null, signal)
    },
    treeAlive() {
      if (rootHeld()) return true
      return hasProc ? membersOf(root, seen).length > 0 : signalGroup(root.pid, 0)
    },
    close: () => Promise.resolve(),
  }
}

/** The group in one call, which no fork can escape: not one that is younger than the look at /proc either. `leader`: of their group, where its number is its own for sure. */
function signalAll(
  members: readonly Process[],
  leader: number | null,
  signal: NodeJS.Signals,
): void {
  const groupDone = leader !== null && signalGroup(leader, signal)
  for (const p of members) {
    if (!(groupDone && p.pgid === leader)) signalProcess(p, signal)
  }
}

/** Only when it is still the process that was looked at. */
export function signalProcess(p: Process, signal: NodeJS.Signals): void {
  if (readProcess(p.pid)?.startTicks !== p.startTicks) return
  try {
    process.kill(p.pid, signal)
  } catch {
    // Gone, or of another user: the next look tells.
  }
}

function signalGroup(pgid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pgid, signal)
    return true
  } catch {
    return false
  }
}
