/** Waiting that a signal cuts short. Nothing here rejects, and no listener is left behind. */
import { setTimeout as timeout } from 'node:timers/promises'

/** Resolves after ms, or at once when the signal aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await timeout(ms, undefined, { signal })
  } catch {
    // aborted: the caller looks at the signal
  }
}

/**
 * Resolves when the first of the signals aborts. AbortSignal.any() is not used in loops because
 * Node 20 keeps each derived signal for as long as a source lives, which here is the process.
 */
export function firstAbort(...signals: readonly AbortSignal[]): Promise<void> {
  if (signals.some((signal) => signal.aborted)) return Promise.resolve()
  return new Promise((resolve) => {
    const done = (): void => {
      for (const signal of signals) signal.removeEventListener('abort', done)
      resolve()
    }
    for (const signal of signals) signal.addEventListener('abort', done)
  })
}
