/**
 * What start() and stop() promise for every part that is started and stopped.
 *
 *   start()  begins the work and returns at once. A second start() does nothing.
 *            A start() after stop() does nothing: to start again, create a new part.
 *   stop()   ends the work. It is legal before start(), during the start, and repeatedly.
 *            It resolves when nothing is left: no timer, socket, listener, process or call.
 *
 * The work gets one AbortSignal, which stop() aborts, and it must not reject. A rejection is a
 * defect: it stays unhandled and ends the process. test/host/lifecycle.ts tests every part.
 */
export interface Lifecycle {
  start(): void
  stop(): Promise<void>
}

/** A part that ends by itself calls `void stop()` inside its work. */
export function createLifecycle(
  run: (signal: AbortSignal) => Promise<void>,
): Lifecycle & { readonly signal: AbortSignal } {
  const stopping = new AbortController()
  const { signal } = stopping
  let running: Promise<void> | null = null
  return {
    signal,
    start() {
      if (!signal.aborted) running ??= run(signal)
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}
