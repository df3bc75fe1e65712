import { setTimeout as pause } from 'node:timers/promises'
import { inspect } from 'node:util'

export interface WaitOptions {
  /** What is waited for, as a sentence: it is the first line of the failure. */
  label: string
  /** Left out: PATIENCE_MS. */
  timeoutMs?: number
  /** Shown on failure beside the last value, e.g. the rows of the table. */
  show?: () => unknown
}

/** Generous: a busy machine is slow, not wrong. What is there sooner is not waited for. */
export const PATIENCE_MS = 60_000

/**
 * Resolves with the probe's first truthy value. A probe that throws has not succeeded yet: the
 * error is shown when the time is over.
 */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  { label, timeoutMs = PATIENCE_MS, show }: WaitOptions,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 1.5, 100)) {
    let last: unknown
    try {
      const value = await probe()
      if (value) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline) {
      const table = show && (await Promise.resolve(show()).catch((error: unknown) => error))
      const shown = show ? `\n${inspect(table, { depth: 6, breakLength: 160 })}` : ''
      throw new Error(
        `waited ${timeoutMs} ms in vain: ${label}\n` +
          `last value: ${inspect(last, { depth: 4 })}${shown}`,
      )
    }
    await pause(waitMs)
  }
}
