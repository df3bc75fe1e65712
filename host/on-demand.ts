/**
 * Work that runs when something requests it: one run at a time. Any number of requests during a
 * run cause one more. It has no start(); its stop() keeps the contract of lifecycle.ts.
 */
export interface OnDemand {
  readonly signal: AbortSignal
  /** Does nothing after stop(). The run begins after the caller's turn of the event loop. */
  request(): void
  /** Resolves when no run is in progress and none is requested. */
  idle(): Promise<void>
  stop(): Promise<void>
}

/** The work must not reject, see lifecycle.ts. It may request its own repetition. */
export function createOnDemand(work: (signal: AbortSignal) => Promise<void>): OnDemand {
  const stopping = new AbortController()
  const { signal } = stopping
  let requested = false
  let running: Promise<void> | null = null

  function request(): void {
    requested = true
    if (signal.aborted) return
    running ??= Promise.resolve()
      .then(runWhileRequested)
      .finally(() => {
        running = null
        // a request may come between the last check and this moment
        if (requested) request()
      })
  }

  async function runWhileRequested(): Promise<void> {
    while (requested && !signal.aborted) {
      requested = false
      await work(signal)
    }
  }

  return {
    signal,
    request,
    async idle() {
      while (running) await running
    },
    async stop() {
      stopping.abort()
      await running
    },
  }
}
