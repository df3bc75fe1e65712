export interface Backoff {
  /** How long to wait after one more failure. */
  nextMs(): number
  reset(): void
}

/**
 * Doubles from firstMs to maxMs; the upper half of each step is random, so that a fleet that lost its database together does not come back
 * together: with first 100 and max 2000 the waits lie in 50-100, 100-200, 200-400, 400-800, 800-1600, then 1000-2000 for ever.
 */
export function createBackoff(
  firstMs: number,
  maxMs: number,
  random: () => number = Math.random,
): Backoff {
  let failures = 0
  return {
    nextMs() {
      const step = Math.min(maxMs, firstMs * 2 ** Math.min(failures, 30))
      failures += 1
      return step / 2 + (random() * step) / 2
    },
    reset() {
      failures = 0
    },
  }
}
