/**
 * How long to wait before the next attempt. The only back-off formula of this repository.
 *
 *   delay(n) = min(maxMs, min(maxMs, firstMs * 2^(n-1)) * (low + (high - low) * random()))
 *
 * n is the number of failures in a row, counted from 1. The delay doubles from firstMs to maxMs.
 * `spread` is [low, high]: the two factors between which the delay is random.
 */
export interface BackoffOptions {
  firstMs: number
  maxMs: number
  spread?: Spread
  /** 0 <= random() < 1 */
  random?: () => number
}

export type Spread = readonly [low: number, high: number]

/**
 * The upper half of each step. A fleet that lost its database together does not return together.
 * With first 100 and max 2000 the delays lie in 50-100, 100-200, 200-400 ... 1000-2000.
 */
export const UPPER_HALF: Spread = [0.5, 1]
/** A share on both sides: `bothSides(0.2)` is [0.8, 1.2]. */
export const bothSides = (share: number): Spread => [1 - share, 1 + share]
export const NO_SPREAD: Spread = [1, 1]

/** 2^30 times any sensible first delay exceeds any maximum, and it keeps the product finite. */
const MAX_DOUBLINGS = 30

export function backoffDelayMs(
  failures: number,
  { firstMs, maxMs, spread: [low, high] = UPPER_HALF, random = Math.random }: BackoffOptions,
): number {
  const doublings = Math.min(Math.max(failures, 1) - 1, MAX_DOUBLINGS)
  const step = Math.min(maxMs, firstMs * 2 ** doublings)
  return Math.min(maxMs, step * (low + (high - low) * random()))
}

export interface Backoff {
  /** How long to wait after one more failure. */
  nextMs(): number
  reset(): void
}

/** Counts the failures in a row, and spreads each delay over its upper half. */
export function createBackoff(
  firstMs: number,
  maxMs: number,
  random: () => number = Math.random,
): Backoff {
  let failures = 0
  return {
    nextMs() {
      failures += 1
      return backoffDelayMs(failures, { firstMs, maxMs, random })
    },
    reset() {
      failures = 0
    },
  }
}
