/**
 * A workload and everything it started. The tree can be signalled, and asked whether it is alive.
 * A process that is not proven to belong to the tree is never signalled.
 */
import { descendantsOf, hasProc, membersOf, readProcess } from '../../host/process-table.js'
import type { Process, KnownMembers, TreeRoot } from '../../host/process-table.js'
import type { Namespace } from './namespace.js'

export interface ProcessTree {
  /** Signals every living process of the tree. */
  signalTree(signal: NodeJS.Signals): void
  treeAlive(): boolean
  /**
   * Ends what contains the tree. Call it when nothing of the tree is alive.
   * Resolves when the container is gone too.
   */
  close(): Promise<void>
}

/**
 * unshare and init belong to the tree for SIGKILL only, which ends everything in the namespace.
 * Every process in it descends from init, and init outlives them all. So nothing else is searched.
 */
export function namespacedTree(
  root: TreeRoot,
  namespace: Pick<Namespace, 'init' | 'workload' | 'kill' | 'ended'>,
): ProcessTree {
  /** Only descendants are looked at: a host that stops a thousand trees must not scan /proc. */
  const inside = (): Process[] => {
    const init = namespace.init()
    const heads = [root, init].filter(
      (head) => head !== null && readProcess(head.pid)?.startTicks === head.startTicks,
    )
    return descendantsOf(heads.map((head) => head!.pid)).filter((p) => p.pid !== init?.pid)
  }
  return {
    signalTree(signal) {
      if (signal === 'SIGKILL') namespace.kill()
      signalAll(inside(), namespace.workload()?.pid ?? null, signal)
    },
    treeAlive: () => inside().length > 0,
    async close() {
      namespace.kill()
      await namespace.ended
    },
  }
}

/** `rootHeld` is true until the root is reaped: so long no other process can have its pid. */
export function processTree(root: TreeRoot, rootHeld: () => boolean): ProcessTree {
  const known: KnownMembers = new Map()
  return {
    signalTree(signal) {
      // The members are listed before any of them is signalled: after the leader's end, what it
      // started in another session could not be found any more.
      signalAll(membersOf(root, known), rootHeld() || !hasProc ? root.pid : null, signal)
    },
    treeAlive() {
      if (rootHeld()) return true
      return hasProc ? membersOf(root, known).length > 0 : signalGroup(root.pid, 0)
    },
    close: () => Promise.resolve(),
  }
}

/**
 * Signals the group of `leader` in one call, which also reaches what forked after /proc was read.
 * Other members are signalled one by one. `leader` is null where its pid is not proven.
 */
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

/** Does nothing when the pid belongs to another process by now. */
export function signalProcess(p: Process, signal: NodeJS.Signals): void {
  if (readProcess(p.pid)?.startTicks !== p.startTicks) return
  try {
    process.kill(p.pid, signal)
  } catch {
    // gone, or of another user: the next scan of /proc shows it
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
