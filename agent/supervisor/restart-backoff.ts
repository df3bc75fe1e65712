/**
 * How long to wait before the next start of something that ended or could not be started.
 *
 *   delay(n) = min(maxMs, firstMs * 2^(n-1)) * (1 - jitter + 2 * jitter * random)      n = failures in a row, counted from 1; never above maxMs
 *
 * With the defaults 1, 2, 4, 8, 16, 32, 60, 60 ... s, each spread by a fifth to both sides, so that the copies of one broken deployment do not return in step.
 * A run of at least stableMs ends the row: its own end counts as the first failure again.
 */
export interface BackoffOptions {
  firstMs: number
  maxMs: number
  /** Share by which a delay is spread to both sides, 0..1. */
  jitter: number
  stableMs: number
  /** 0 <= random() < 1 */
  random: () => number
}

export const DEFAULT_BACKOFF: BackoffOptions = {
  firstMs: 1_000,
  maxMs: 60_000,
  jitter: 0.2,
  stableMs: 60_000,
  random: Math.random,
}

export function backoffDelayMs(
  failures: number,
  options: BackoffOptions = DEFAULT_BACKOFF,
): number {
  // 2^30 times anything sensible is past every maximum, and keeps the product finite.
  const doublings = Math.min(Math.max(failures, 1) - 1, 30)
  const plain = Math.min(options.maxMs, options.firstMs * 2 ** doublings)
  const spread = 1 - options.jitter + 2 * options.jitter * options.random()
  return Math.round(Math.min(options.maxMs, plain * spread))
}

/** Failures in a row after a run that lasted ranForMs ended. */
export function failuresAfter(
  previousFailures: number,
  ranForMs: number,
  options: BackoffOptions = DEFAULT_BACKOFF,
): number {
  return ranForMs >= options.stableMs ? 1 : previousFailures + 1
}
