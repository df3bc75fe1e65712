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

/** Resolves when the work has stopped, by itself (`done`) or because it was asked to. */
export async function untilStopped(work: Stoppable, options: { done?: Promise<void>; stopOnStdinEnd?: boolean } = {}): Promise<void> {
  let asked = false
  await new Promise<void>((resolve, reject) => {
    const ask = () => {
      if (asked) {
        work.kill?.()
        process.exit(FORCED_EXIT_CODE)
      }
      asked = true
      work.stop().then(resolve, reject)
    }
    for (const signal of SIGNALS) process.on(signal, ask)
    if (options.stopOnStdinEnd) {
      const end = () => { if (!asked) ask() }
      process.stdin.once('end', end).once('close', end).once('error', end).resume()
    }
    options.done?.then(resolve, reject)
  })
  process.stdin.destroy()
}
