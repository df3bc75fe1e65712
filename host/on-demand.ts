/**
 * Work that runs when something requests it: one run at a time. Any number of requests during a
 * run cause one more. It has no start(); its stop() keeps the contract of lifecycle.ts.
 */
export interface OnDemand {
  readonly signal: AbortSignal
  /** Begins a run at once when none is in progress. Does nothing after stop(). */
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
  let active = false
  let running: Promise<void> | null = null

  function request(): void {
    requested = true
    if (signal.aborted || active) return
    active = true
    running = runWhileRequested().finally(() => {
      active = false
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
