/**
 * How long-running commands stop. The first SIGINT, SIGTERM or SIGHUP asks them to stop, the second
 * ends them at once.
 *
 * Children of `mooring up` also stop when their stdin ends. `up` holds the other end of the pipe
 * and never writes. The kernel closes it when `up` dies in any way, SIGKILL included, on every
 * platform.
 */
export interface Stoppable {
  stop(): Promise<void>
  /** Stops at once. The process exits right after. */
  kill?(): void
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const FORCED_EXIT_CODE = 1
const PARENT_CHECK_MS = 500
/**
 * Some versions of npm pass on a Ctrl-C that the terminal has sent already: two signals at once.
 */
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

/** Aborts at the first signal that asks to stop. The second one exits at once. */
export function stopSignal(): AbortSignal {
  const stopped = new AbortController()
  onStopSignal(
    () => stopped.abort(),
    () => process.exit(FORCED_EXIT_CODE),
  )
  return stopped.signal
}

/** Resolves when the work has stopped, by itself (`done`) or because a signal asked it to. */
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
    if (process.env['npm_execpath']) whenOrphaned(ask)
  })
  process.stdin.destroy()
}

/**
 * A signal to npx or npm ends them and their shell, and never arrives here. So the loss of that
 * parent asks to stop. A program that was started directly outlives its shell, as others do.
 */
function whenOrphaned(ask: () => void): void {
  const parent = process.ppid
  setInterval(() => {
    if (process.ppid !== parent) ask()
  }, PARENT_CHECK_MS).unref()
}
