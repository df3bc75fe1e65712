/**
 * The life of a long-running command: the first SIGINT, SIGTERM or SIGHUP asks it to stop, the second ends it at once.
 *
 * Children of `mooring up` also stop when their stdin ends. Their parent holds the other end and never writes: the
 * kernel closes it however the parent dies, SIGKILL included, on every platform, and there is no pid to mistake.
 */
export interface Stoppable {
  stop(): Promise<void>
  /** At once and without ceremony; the process exits right after. */
  kill?(): void
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const FORCED_EXIT_CODE = 1
/** Some versions of npm pass Ctrl-C on to a child that has it from the terminal already: one key press, two signals. */
const SAME_KEY_PRESS_MS = 250

/** Calls `first` at the first signal that asks to stop, and `again` at each one after it. */
export function onStopSignal(first: () => void, again: () => void): void {
  let firstAt: number | undefined
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (firstAt === undefined) {
        firstAt = performance.now()
        first()
      } else if (signal !== 'SIGINT' || performance.now() - firstAt > SAME_KEY_PRESS_MS) again()
    })
  }
}

/** Resolves when the work has stopped, by itself (`done`) or because it was asked to. */
export async function untilStopped(
  work: Stoppable,
  options: { done?: Promise<void>; stopOnStdinEnd?: boolean } = {},
): Promise<void> {
  let asked = false
  await new Promise<void>((resolve, reject) => {
    const ask = () => {
      if (asked) return
      asked = true
      work.stop().then(resolve, reject)
    }
    onStopSignal(ask, () => {
      work.kill?.()
      process.exit(FORCED_EXIT_CODE)
    })
    if (options.stopOnStdinEnd)
      process.stdin.once('end', ask).once('close', ask).once('error', ask).resume()
    options.done?.then(resolve, reject)
  })
  process.stdin.destroy()
}
