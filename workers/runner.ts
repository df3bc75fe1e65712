/**
 * The worker: runs the rounds, and the jobs that triggers request. Any number may run, on any
 * hosts. Safety needs none.
 *
 * A worker is a sequence of lives, as an agent is one of sessions. One life has:
 *   - a connection pool and a name for tick;
 *   - a runner for place, evict and prune;
 *   - a runner for reap, so that no queue of place jobs delays the work of a dead host;
 *   - a metronome.
 * When a connection is lost, a new life replaces the whole old one, because the library takes up
 * to a minute to listen again and two to poll again. The database frees what a silent life holds.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as timeout } from 'node:timers/promises'
import type { Logger } from 'pino'
import { raceDeadline } from '../host/deadline.js'
import { firstAbort, sleep } from '../host/waiting.js'
import { createBackoff } from '../host/backoff.js'
import { createLifecycle, type Lifecycle } from '../host/lifecycle.js'
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
  /** postgres:// URL of a direct connection (the worker LISTENs). A secret: never logged. */
  databaseUrl: string
  /** Concurrent jobs of place, evict and prune; default 4. reap has one slot of its own. */
  concurrency?: number
  log: Logger
}

/**
 * Placement is serialised in the database: one claim runs, one waits, and all others return at
 * once. So a queue of five hundred place jobs empties while two of them work.
 */
export const DEFAULT_CONCURRENCY = 4
/** A job that takes longer to end, or to unlock, is left to the other workers. */
export const STOP_TIMEOUT_MS = 10_000
/** The others free what a worker leaves that cannot say that it ends. */
const FAREWELL_DEADLINE_MS = 2_000
const SETTLE_MS = 200
const RETRY_MS = { first: 100, max: 2_000 }

export function createWorker({
  databaseUrl,
  concurrency = DEFAULT_CONCURRENCY,
  log,
}: WorkerConfig): Lifecycle {
  const life = createLifecycle(runLives)
  const stop = life.signal
  const stopped = firstAbort(stop)
  const backoff = createBackoff(RETRY_MS.first, RETRY_MS.max)
  const retired = new Set<Promise<unknown>>()
  let failing = false

  async function runLives(): Promise<void> {
    while (!stop.aborted) {
      try {
        await runOneLife()
      } catch (error) {
        if (!failing && !stop.aborted)
          log.warn(
            { event: 'worker_away', ...describeError(error) },
            'the database cannot be reached; retrying until it can',
          )
        failing = true
      }
      await sleep(backoff.nextMs(), stop)
    }
    await Promise.all(retired)
  }

  /** Resolves when the worker is stopped and nothing is left. Rejects when a connection is lost. */
  async function runOneLife(): Promise<void> {
    // doctor_nodes() reads the version
    const name = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}@${packageVersion()}`
    const broken = new AbortController()
    const onBroken = (error: unknown): void => broken.abort(error)
    // each runner needs its slots, a listening connection, and one for its own bookkeeping
    const opening = openJobPool({ databaseUrl, connections: concurrency + 4 })
    await Promise.race([stopped, opening])
    if (stop.aborted) {
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
    // before the runners run there is nothing to end gracefully
    stop.addEventListener('abort', jobs.abandon)
    try {
      for (const [taskList, slots] of [
        [{ place, evict, prune }, concurrency],
        [{ reap }, 1],
      ] as const) {
        runners.push(
          await startJobRunner({ pgPool: jobs.pool, taskList, concurrency: slots, onBroken, log }),
        )
      }
      stop.removeEventListener('abort', jobs.abandon)
      const metronome = createMetronome({
        db,
        worker: name,
        poolIds: runners.map((runner) => runner.poolId),
        onSilence,
        log,
      })
      metronome.start()
      const ended = firstAbort(stop, broken.signal)
      void metronome.known.then(() => runners.forEach((runner) => runner.takeJobs()))
      await Promise.race([
        ended,
        Promise.all([metronome.known, ...runners.map((runner) => runner.listening)]),
      ])
      if (!stop.aborted && !broken.signal.aborted) {
        log.info(
          { event: 'worker_started', worker: name, concurrency },
          failing ? 'the worker runs again' : 'the worker runs',
        )
        failing = false
        backoff.reset()
      }
      await ended
      db.close()
      await metronome.stop()
      if (!stop.aborted) throw broken.signal.reason
    } finally {
      stop.removeEventListener('abort', jobs.abandon)
      db.close()
      const gone = end(runners, jobs, broken.signal.aborted)
      // a broken life releases its jobs while the next life runs
      if (!stop.aborted) retire(gone)
      else if (await gone) await sayFarewell(name)
    }
  }

  function retire(gone: Promise<unknown>): void {
    retired.add(gone)
    void gone.then(() => retired.delete(gone))
  }

  /** On a connection of its own, because a tick may hang on the one before. */
  async function sayFarewell(worker: string): Promise<void> {
    const db = createWorkerDb({ databaseUrl })
    try {
      await db.end(worker, FAREWELL_DEADLINE_MS)
    } catch (error) {
      log.debug({ event: 'farewell_failed', ...describeError(error) }, 'it is taken for lost')
    } finally {
      db.close()
    }
  }

  /** True: every job was given back. */
  async function end(
    runners: readonly JobRunner[],
    { pool, abandon }: JobPool,
    broken: boolean,
  ): Promise<boolean> {
    // stopping the library fails while its queries still wait on lost connections
    if (broken) await timeout(SETTLE_MS)
    const ended = Promise.all(runners.map((runner) => runner.stop()))
      .then(() => pool.end())
      .then(
        () => true,
        () => false,
      )
    const gaveBack = await raceDeadline(STOP_TIMEOUT_MS, ended, () => false)
    abandon()
    return gaveBack && !broken
  }

  return { start: life.start, stop: life.stop }
}
