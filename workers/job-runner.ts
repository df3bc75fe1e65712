/**
 * One graphile-worker runner. These settings differ from the library's defaults:
 *
 *   completeJobBatchDelay 0   because a graceful stop ends the pool before the running job is
 *   failJobBatchDelay 0       unlocked, and the job then stays locked for four hours
 *   parsedCronItems []        because the library reads ./crontab of the working directory
 *   noHandleSignals           because signals belong to the program
 *   schema                    because an application in the same database may have a worker too
 *   pollInterval              because NOTIFY announces a due job, and polling finds missed ones
 */
import { EventEmitter } from 'node:events'
import type { Runner, TaskList, WorkerEvents } from 'graphile-worker'
import type { Pool } from 'pg'
import type { Logger } from 'pino'
import { graphileWorker } from '../postgres/graphile-worker.js'
import { JOBS_SCHEMA } from '../postgres/jobs-schema.js'

export interface JobRunner {
  poolId: string
  /** Resolves when it listens; never when its connection is lost before, see onBroken(). */
  listening: Promise<void>
  /**
   * No job is taken before this call, because no worker frees the locked jobs of a pool that no
   * tick has named. Idempotent.
   */
  takeJobs(): void
  /** Resolves when the running jobs are done and unlocked. */
  stop(): Promise<void>
}

export interface JobRunnerOptions {
  pgPool: Pool
  taskList: TaskList
  concurrency: number
  /** Its listening connection is lost, or it ended by itself. May be called repeatedly. */
  onBroken(error: unknown): void
  log: Logger
}

export const POLL_INTERVAL_MS = 1_000

/** Rejects when the database is unreachable, or newer than the library in its own schema. */
export async function startJobRunner({
  pgPool,
  taskList,
  concurrency,
  onBroken,
  log,
}: JobRunnerOptions): Promise<JobRunner> {
  const { Logger: WorkerLogger, run } = graphileWorker()
  const events: WorkerEvents = new EventEmitter()
  let poolId = ''
  events.on('pool:create', ({ workerPool }) => {
    poolId = workerPool.id
  })
  let takeJobs = (): void => {}
  const mayTakeJobs = new Promise<null>((resolve) => {
    takeJobs = () => resolve(null)
  })
  const listening = new Promise<void>((resolve) => {
    events.once('pool:listen:success', () => resolve())
  })
  events.on('pool:listen:error', ({ error }) => onBroken(error))
  const runner = await run({
    pgPool,
    taskList,
    parsedCronItems: [],
    noHandleSignals: true,
    events,
    // no flag is forbidden, but the library waits for this answer before it takes a job
    forbiddenFlags: () => mayTakeJobs,
    preset: {
      worker: {
        concurrentJobs: concurrency,
        schema: JOBS_SCHEMA,
        pollInterval: POLL_INTERVAL_MS,
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger: new WorkerLogger(
          () => (level, message) => log[LEVELS[level]]({ event: 'graphile_worker' }, message),
        ),
      },
    },
  })
  runner.promise.then(() => onBroken(new Error('the runner ended by itself')), onBroken)
  return {
    poolId,
    listening,
    takeJobs,
    async stop() {
      // the library's stop waits for a slot that still waits for its first job
      takeJobs()
      await stopOnce(runner)
    },
  }
}

/**
 * The library logs each job as info, which is debug here. Its errors are mostly lost connections,
 * which the worker reports once.
 */
const LEVELS = { error: 'warn', warning: 'warn', info: 'debug', debug: 'trace' } as const

async function stopOnce(runner: Runner): Promise<void> {
  try {
    await runner.stop()
  } catch {
    // it had ended by itself, or its last call failed: tick frees what it held
  }
}
