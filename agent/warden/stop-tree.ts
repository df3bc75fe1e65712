/**
 * Ends a process tree and notices when it is gone.
 *
 *   begin            leader exits        all gone
 *   |--- SIGTERM ----|-- checks at 5, 10, 20 .. 200 ms --| done
 *   |------------------------ grace --------------------| SIGKILL to the rest, at each check
 *
 * Nothing is polled while the leader lives, because its end is an event. `done` needs two empty
 * checks in a row, because one read of /proc is not a snapshot. A process that SIGKILL does not end
 * (stuck in the kernel) keeps `done` pending and so keeps the assignment: that is intended.
 */
import type { ProcessTree } from './process-tree.js'

export interface Stop {
  /** Never rejects. */
  readonly done: Promise<void>
  /** Shortens the rest of the grace, never extends it. 0 sends SIGKILL before it returns. */
  hurry(graceMs: number): void
}

const FIRST_CHECK_MS = 5
const SLOWEST_CHECK_MS = 200
const KILL_AGAIN_MS = 50
const STUCK_AFTER_MS = 5_000
const STUCK_CHECK_MS = 1_000

/** Calls `onStuck` once when SIGKILL has had no effect for STUCK_AFTER_MS. */
export function stopTree(
  tree: Pick<ProcessTree, 'signalTree' | 'treeAlive'> & { exit: Promise<unknown> },
  graceMs: number,
  onStuck: () => void = () => {},
): Stop {
  let killAt = performance.now() + graceMs
  let firstKillAt: number | null = null
  let leaderEnded = false
  let wake = (): void => {}

  const left = (): number => killAt - performance.now()
  const kill = (): void => {
    firstKillAt ??= performance.now()
    signal('SIGKILL')
  }
  /** A check fails when no descriptor is left for /proc. The tree then counts as alive. */
  const alive = (): boolean => {
    try {
      return tree.treeAlive()
    } catch {
      return true
    }
  }
  const signal = (name: NodeJS.Signals): void => {
    try {
      tree.signalTree(name)
    } catch {
      // the next check sends SIGKILL, if not this signal
    }
  }
  /** Not from timers/promises: waking one of those early takes an AbortController for each nap. */
  const nap = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })

  const run = async (): Promise<void> => {
    while (!leaderEnded && left() > 0) await nap(left())
    let pauseMs = FIRST_CHECK_MS
    let warned = false
    for (let emptyChecks = 0; ;) {
      emptyChecks = alive() ? 0 : emptyChecks + 1
      if (emptyChecks === 2) return
      if (emptyChecks === 0 && left() <= 0) kill()
      const unheededMs = firstKillAt === null ? 0 : performance.now() - firstKillAt
      if (unheededMs > STUCK_AFTER_MS && !warned) {
        warned = true
        onStuck()
      }
      await nap(
        warned
          ? STUCK_CHECK_MS
          : left() > 0
            ? Math.min(pauseMs, left())
            : Math.min(pauseMs, KILL_AGAIN_MS),
      )
      pauseMs = Math.min(pauseMs * 2, SLOWEST_CHECK_MS)
    }
  }

  void tree.exit.then(() => {
    leaderEnded = true
    wake()
  })
  if (graceMs > 0) signal('SIGTERM')
  else kill()
  return {
    done: run(),
    hurry(graceLeftMs) {
      killAt = Math.min(killAt, performance.now() + graceLeftMs)
      if (graceLeftMs <= 0) kill()
      wake()
    },
  }
}
