/**
 * The worker: runs the rounds and the jobs that triggers ask for. Any number of them may run, on any hosts; none is needed for safety.
 *
 * A worker lives as a row of lives, like an agent as a row of sessions. One life is a connection pool, two runners (place, evict and prune share
 * one; reap has its own, so that five hundred place jobs never keep a dead host's work waiting), a metronome, and a name for tick. When a
 * connection is lost the whole life is thrown away and a new one is made, for ever: left to itself the library would take
 * up to a minute to listen again, and two to look again. What an old life still holds is freed by its silence, as after a crash.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as settle } from 'node:timers/promises'
import type { Logger } from 'pino'
import { raceDeadline } from '../host/deadline.js'
import { firstAbort, sleep } from '../host/waiting.js'
import { createBackoff } from '../host/backoff.js'
import { describeError } from '../postgres/errors.js'
import { packageVersion } from '../host/package-version.js'
import { createWorkerDb } from './verbs.js'
import { openJobPool, type JobPool } from './job-pool.js'
import { startJobRunner, type JobRunner } from './job-runner.js'
import { createMetronome } from './metronome.js'
import { evict } from './tasks/evict.js'
import { place } from './tasks/place.js'
import { prune } from './tasks/prune.js'
import { reap } from './tasks/reap.js'

export interface WorkerConfig {
  /** postgres:// URL of a direct connection (the worker LISTENs). Holds a password: never logged. */
  databaseUrl: string
  /** Jobs at once in the runner of place, evict and prune, default 4; reap has one slot of its own beside it. */
  concurrency?: number
  log: Logger
}

export interface Worker {
  /** Returns at once. The database may be down: it is tried for ever. */
  start(): void
  /** Resolves when nothing is left: the running jobs done and unlocked, connections closed. Idempotent, legal before start. */
  stop(): Promise<void>
}

/**
 * Placement is serialised in the database: one claim runs, one waits, and the rest are sent home at once, which is what empties a queue of
 * five hundred place jobs while the two work.
 */
export const DEFAULT_CONCURRENCY = 4
/** A job that takes longer to end, or to say that it has, is left to the other workers. */
export const STOP_TIMEOUT_MS = 10_000
const SETTLE_MS = 200
const RETRY_MS = { first: 100, max: 2_000 }

export function createWorker({
  databaseUrl,
  concurrency = DEFAULT_CONCURRENCY,
  log,
}: WorkerConfig): Worker {
  const stopping = new AbortController()
  const asked = firstAbort(stopping.signal)
  const backoff = createBackoff(RETRY_MS.first, RETRY_MS.max)
  const retired = new Set<Promise<void>>()
  let loop: Promise<void> | null = null
  let away = false

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await live()
      } catch (error) {
        if (!away && !stopping.signal.aborted)
          log.warn(
            { event: 'worker_away', ...describeError(error) },
            'the database cannot be reached; trying again until it can',
          )
        away = true
      }
      await sleep(backoff.nextMs(), stopping.signal)
    }
    await Promise.all(retired)
  }

  /** One life. Resolves when stop was asked and nothing is left; rejects when a connection is lost. */
  async function live(): Promise<void> {
    // the version is read by doctor_nodes()
    const name = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}@${packageVersion()}`
    const broken = new AbortController()
    const onBroken = (error: unknown): void => broken.abort(error)
    // each runner: its slots and the connection that listens; and one for its own bookkeeping
    const opening = openJobPool({ databaseUrl, connections: concurrency + 4 })
    await Promise.race([asked, opening])
    if (stopping.signal.aborted) {
      void opening.then(
        (jobs) => jobs.abandon(),
        () => {},
      )
      return
    }
    const jobs = await opening
    const onSilence = (error: unknown): void => {
      jobs.abandon()
      broken.abort(error)
    }
    const runners: JobRunner[] = []
    const db = createWorkerDb({ databaseUrl })
    // until the runners are up there is nothing to end gracefully
    stopping.signal.addEventListener('abort', jobs.abandon)
    try {
      for (const [taskList, slots] of [
        [{ place, evict, prune }, concurrency],
        [{ reap }, 1],
      ] as const) {
        runners.push(
          await startJobRunner({ pgPool: jobs.pool, taskList, concurrency: slots, onBroken, log }),
        )
      }
      stopping.signal.removeEventListener('abort', jobs.abandon)
      const metronome = createMetronome({
        db,
        worker: name,
        poolIds: runners.map((runner) => runner.poolId),
        onSilence,
        log,
      })
      metronome.start()
      const over = firstAbort(stopping.signal, broken.signal)
      void metronome.known.then(() => runners.forEach((runner) => runner.begin()))
      await Promise.race([
        over,
        Promise.all([metronome.known, ...runners.map((runner) => runner.listening)]),
      ])
      if (!stopping.signal.aborted && !broken.signal.aborted) {
        log.info(
          { event: 'worker_started', worker: name, concurrency },
          away ? 'the worker is back' : 'the worker runs',
        )
        away = false
        backoff.reset()
      }
      await over
      db.close()
      await metronome.stop()
      if (!stopping.signal.aborted) throw broken.signal.reason
    } finally {
      stopping.signal.removeEventListener('abort', jobs.abandon)
      db.close()
      const gone = end(runners, jobs, broken.signal.aborted)
      // a broken life gives back its jobs when it can, behind the new one's back
      if (stopping.signal.aborted) await gone
      else retire(gone)
    }
  }

  function retire(gone: Promise<void>): void {
    retired.add(gone)
    void gone.then(() => retired.delete(gone))
  }

  async function end(
    runners: readonly JobRunner[],
    { pool, abandon }: JobPool,
    broken: boolean,
  ): Promise<void> {
    // the library takes it badly when it is stopped while its questions still wait on connections that are lost
    if (broken) await settle(SETTLE_MS)
    const ended = Promise.all(runners.map((runner) => runner.stop()))
      .then(() => pool.end())
      .catch(() => {})
    await raceDeadline(STOP_TIMEOUT_MS, ended, () => {})
    abandon()
  }

  return {
    start() {
      if (!stopping.signal.aborted) loop ??= run()
    },
    async stop() {
      stopping.abort()
      await loop
    },
  }
}
