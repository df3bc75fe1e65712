/**
 * Ends a process tree and knows when it is gone.
 *
 *   begin            leader exits        all gone
 *   |--- SIGTERM ----|-- looks at 5, 10, 20 .. 200 ms --| done
 *   |------------------------ grace -------------------| SIGKILL to what is left, again at each look until nothing is
 *
 * While the leader lives nothing is polled: its end is an event. `done` means two looks in a row found nothing, because one look at /proc is not a snapshot.
 * A process that even SIGKILL does not end (stuck in the kernel) keeps `done` open, and with it the assignment: that is the point.
 */
import type { ProcessTree } from './process-tree.js'

export interface Stop {
  /** Never rejects. */
  readonly done: Promise<void>
  /** Shortens what is left of the grace; never lengthens it. 0 sends SIGKILL before it returns. */
  hurry(graceMs: number): void
}

const FIRST_LOOK_MS = 5
const SLOWEST_LOOK_MS = 200
const KILL_AGAIN_MS = 50
const STUCK_AFTER_MS = 5_000
const STUCK_LOOK_MS = 1_000

/** `onStuck`: SIGKILL has been unheeded for some seconds; a person should know. */
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
  /** A look that fails (no descriptor left for /proc) has found nothing out: what was there is taken to be there still. */
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
      // the next look sends it again, SIGKILL at the latest
    }
  }
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
    let pauseMs = FIRST_LOOK_MS
    let warned = false
    for (let emptyLooks = 0; ;) {
      emptyLooks = alive() ? 0 : emptyLooks + 1
      if (emptyLooks === 2) return
      if (emptyLooks === 0 && left() <= 0) kill()
      const unheededMs = firstKillAt === null ? 0 : performance.now() - firstKillAt
      if (unheededMs > STUCK_AFTER_MS && !warned) {
        warned = true
        onStuck()
      }
      await nap(
        warned
          ? STUCK_LOOK_MS
          : left() > 0
            ? Math.min(pauseMs, left())
            : Math.min(pauseMs, KILL_AGAIN_MS),
      )
      pauseMs = Math.min(pauseMs * 2, SLOWEST_LOOK_MS)
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
