/**
 * Keeps the rounds going. Each worker process ticks. The database admits one of them for each due
 * round, and frees the jobs of workers that stopped ticking.
 * So any worker may die at any moment, and any number may run.
 */
import type { Logger } from 'pino'
import { createServerClock, type ServerClock } from '../postgres/server-clock.js'
import { sleep } from '../host/waiting.js'
import { createBackoff } from '../host/backoff.js'
import { createLifecycle, type Lifecycle } from '../host/lifecycle.js'
import { describeError, READ_ONLY_SERVER } from '../postgres/errors.js'
import type { WorkerDb } from './verbs.js'

export interface Metronome extends Lifecycle {
  /** Resolves when a tick was answered: the database knows the worker and its pools. */
  known: Promise<void>
}

export interface MetronomeOptions {
  db: Pick<WorkerDb, 'tick'>
  /** The name of this life of the worker. The database frees the jobs of these pools after it. */
  worker: string
  poolIds: readonly string[]
  /**
   * The database missed the deadline or became read only, so the worker's other connections are
   * doubtful too.
   */
  onSilence(error: unknown): void
  log: Logger
  /** Reports the local clock to the database. */
  watch?: ServerClock
}

export const TICK_DEADLINE_MS = 5_000
/** The limit of next_ms, because a tick is also the sign of life of the worker. */
export const MAX_SLEEP_MS = 1_000
/** It did not answer in time, or is a standby by now. */
const LEAVE_THE_SERVER: ReadonlySet<string> = new Set(['CALL_DEADLINE', READ_ONLY_SERVER])
const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 2_000

export function createMetronome({
  db,
  worker,
  poolIds,
  onSilence,
  log,
  watch = createServerClock(),
}: MetronomeOptions): Metronome {
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let failing = false
  let resolveKnown = (): void => {}
  const known = new Promise<void>((resolve) => {
    resolveKnown = resolve
  })

  /** One tick. Returns how long to sleep. */
  async function runOnce(stop: AbortSignal): Promise<number> {
    try {
      const { next_ms, clock_ms } = await db.tick(
        worker,
        poolIds,
        watch.beforeTick(),
        TICK_DEADLINE_MS,
      )
      watch.afterTick(clock_ms)
      resolveKnown()
      if (failing) log.info({ event: 'ticking' }, 'ticking again')
      failing = false
      backoff.reset()
      return Math.min(next_ms, MAX_SLEEP_MS)
    } catch (error) {
      if (stop.aborted) return 0
      const fields = describeError(error)
      if (!failing)
        log.warn({ event: 'tick_failed', ...fields }, 'a tick failed; retrying until one succeeds')
      failing = true
      if (fields.code !== undefined && LEAVE_THE_SERVER.has(fields.code)) onSilence(error)
      return backoff.nextMs()
    }
  }

  const { start, stop } = createLifecycle(async (stop) => {
    while (!stop.aborted) await sleep(await runOnce(stop), stop)
  })

  return { known, start, stop }
}
