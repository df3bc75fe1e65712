/**
 * When the next process of an assignment starts after one has ended or could not be started.
 * host/backoff.ts has the formula. With the defaults: 1, 2, 4, 8, 16, 32, 60, 60 ... s, each spread
 * by a fifth to both sides, so that the instances of one broken deployment do not restart in step.
 */
import { backoffDelayMs, bothSides, type BackoffOptions } from '../../host/backoff.js'

export interface RestartBackoffOptions extends BackoffOptions {
  /** A process that ran at least this long ends the row: its own end is the first failure again. */
  stableMs: number
}

export const DEFAULT_RESTART_BACKOFF: RestartBackoffOptions = {
  firstMs: 1_000,
  maxMs: 60_000,
  spread: bothSides(0.2),
  stableMs: 60_000,
}

export interface RestartBackoff {
  /** The delay after a process that ran for ranForMs; null when it could not be started. */
  nextMs(ranForMs: number | null): number
  reset(): void
}

export function createRestartBackoff(
  options: RestartBackoffOptions = DEFAULT_RESTART_BACKOFF,
): RestartBackoff {
  let failures = 0
  return {
    nextMs(ranForMs) {
      const wasStable = ranForMs !== null && ranForMs >= options.stableMs
      failures = wasStable ? 1 : failures + 1
      return Math.round(backoffDelayMs(failures, options))
    },
    reset() {
      failures = 0
    },
  }
}
