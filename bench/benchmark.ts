/**
 * What a benchmark is, and how its values become one line of the table.
 *
 * A figure keeps every value it was made from. The median is compared with the target; minimum and
 * maximum say how far to trust it. Two ways of doing a thing are compared pair by pair in one run
 * and given as a ratio, because two runs differ more than the two ways do.
 */
import type { Database } from './server.js'
import type { Host } from './programs.js'

export interface Benchmark {
  /** What is said on the command line, group/case or group. */
  name: string
  /** Starts processes: too slow or too noisy to be run where only the code is checked. */
  spawns?: true
  run(bench: Bench): Promise<Figure[]>
}

export interface Bench {
  /** Small sizes and one run: shows that it works, not how fast it is. */
  quick: boolean
  /** How often each measurement is repeated, after one warm-up. */
  runs: number
  /** A size, or its small version. */
  size(full: number, quick: number): number
  /** A database of its own, migrated, dropped when `use` has ended. */
  inDatabase<T>(use: (database: Database) => Promise<T>): Promise<T>
  /**
   * Hosts and workers as real processes against that database; none is left when `use` has ended.
   */
  onHost<T>(database: Database, use: (host: Host) => Promise<T>): Promise<T>
  /** One line of progress for the waiting user. */
  say(text: string): void
}

export type Unit = 'ms' | '/s' | 'x' | '%' | 'µs' | 'MB' | ''

export interface Figure {
  what: string
  unit: Unit
  values: readonly number[]
  /** What the median is held against. Without it the figure only explains another one. */
  asked?: { atMost: number } | { atLeast: number }
  /** What bare statements reach, as text. */
  floor?: string
  note?: string
}

/** The warm-up's value is thrown away: first plans, first pages, first connections. */
export async function repeat<T>(bench: Bench, once: (run: number) => Promise<T>): Promise<T[]> {
  const values: T[] = []
  for (let run = bench.quick ? 1 : 0; run <= bench.runs; run++) {
    const value = await once(run)
    if (run > 0) values.push(value)
  }
  return values
}

export async function elapsedMs(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

/** A figure that is no number, or work that was not done, must not pass for a fast one. */
export function assertEqual(actual: unknown, expected: unknown, what: string): void {
  if (String(actual) !== String(expected))
    throw new Error(`${what}: ${String(actual)} instead of ${String(expected)}`)
}

export const median = (values: readonly number[]): number => percentile(values, 50)

/**
 * Nearest rank, so that a p99 is a value that was measured; the median of an even number lies
 * between two.
 */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length / 2
  if (p === 50 && Number.isInteger(half) && half > 0) return (sorted[half - 1]! + sorted[half]!) / 2
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? NaN
}

export function isMet({ asked, values }: Figure): boolean | null {
  if (asked === undefined) return null
  return 'atMost' in asked ? median(values) <= asked.atMost : median(values) >= asked.atLeast
}
