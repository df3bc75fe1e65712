/**
 * Keeps the rounds going. Each worker process ticks; the database lets one of them through for each round that is due, and frees the jobs of
 * workers that have not ticked for a while. So any worker may die at any moment, and any number may run.
 */
import type { Logger } from 'pino'
import { createServerClock, type ServerClock } from '../postgres/server-clock.js'
import { pause } from '../host/waiting.js'
import { createBackoff } from '../host/backoff.js'
import { describeError } from '../postgres/errors.js'
import type { WorkerDb } from './verbs.js'

export interface Metronome {
  start(): void
  /** Resolves when a tick was answered: the database knows the worker and its pools. */
  known: Promise<void>
  /** Resolves when no tick is in flight. Idempotent, legal before start. */
  stop(): Promise<void>
}

export interface MetronomeOptions {
  db: Pick<WorkerDb, 'tick'>
  /** Name of this life of the worker, and the pools whose jobs are freed when it stops ticking. */
  worker: string
  poolIds: readonly string[]
  /** The database did not answer in time: the worker's other connections are no better. */
  onSilence(error: unknown): void
  log: Logger
  /** What it tells the database of its own clock. */
  watch?: ServerClock
}

export const TICK_DEADLINE_MS = 5_000
/** Whatever next_ms says: a tick is also the sign of life of a worker whose rounds are rare. */
export const MAX_SLEEP_MS = 1_000
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
  const stopping = new AbortController()
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let loop: Promise<void> | null = null
  let failing = false
  let isKnown = (): void => {}
  const known = new Promise<void>((resolve) => {
    isKnown = resolve
  })

  /** One tick; returns how long to sleep. */
  async function runOnce(): Promise<number> {
    try {
      const { next_ms, clock_ms } = await db.tick(
        worker,
        poolIds,
        watch.beforeTick(),
        TICK_DEADLINE_MS,
      )
      watch.afterTick(clock_ms)
      isKnown()
      if (failing) log.info({ event: 'ticking' }, 'ticking again')
      failing = false
      backoff.reset()
      return Math.min(next_ms, MAX_SLEEP_MS)
    } catch (error) {
      if (stopping.signal.aborted) return 0
      const said = describeError(error)
      if (!failing)
        log.warn(
          { event: 'tick_failed', ...said },
          'a tick failed; trying again until one does not',
        )
      failing = true
      if (said.code === 'CALL_DEADLINE') onSilence(error)
      return backoff.nextMs()
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) await pause(await runOnce(), stopping.signal)
  }

  return {
    known,
    start() {
      loop ??= run()
    },
    async stop() {
      stopping.abort()
      await loop
    },
  }
}
