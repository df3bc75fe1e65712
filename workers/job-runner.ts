/**
 * One graphile-worker runner, with the settings that its defaults get wrong for us:
 *   completeJobBatchDelay, failJobBatchDelay 0  else a graceful stop ends the pool before the running job is unlocked: locked for four hours
 *   parsedCronItems []                          else ./crontab of the working directory is read
 *   noHandleSignals                             signals belong to the program, not to a library in it
 *   pollInterval                                a job due now arrives by NOTIFY; polling is for what was missed
 */
import { EventEmitter } from 'node:events'
import {
  Logger as WorkerLogger,
  run,
  type Runner,
  type TaskList,
  type WorkerEvents,
} from 'graphile-worker'
import type { Pool } from 'pg'
import type { Logger } from 'pino'

export interface JobRunner {
  poolId: string
  /** Resolves when it has the connection it listens on; never where that is lost before, see onBroken. */
  listening: Promise<void>
  /** No job is taken before: of a pool that no tick has named nobody would free what it leaves locked. Idempotent. */
  begin(): void
  /** Resolves when the running jobs are done and unlocked. */
  stop(): Promise<void>
}

export interface JobRunnerOptions {
  pgPool: Pool
  taskList: TaskList
  concurrency: number
  /** It cannot go on: its listening connection is lost, or it ended by itself. May be called more than once. */
  onBroken(error: unknown): void
  log: Logger
}

export const POLL_INTERVAL_MS = 1_000

/** Rejects when the database cannot be reached or its graphile_worker schema is newer than the library. */
export async function startJobRunner({
  pgPool,
  taskList,
  concurrency,
  onBroken,
  log,
}: JobRunnerOptions): Promise<JobRunner> {
  const events: WorkerEvents = new EventEmitter()
  let poolId = ''
  events.on('pool:create', ({ workerPool }) => {
    poolId = workerPool.id
  })
  let begin = (): void => {}
  const begun = new Promise<null>((resolve) => {
    begin = () => resolve(null)
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
    // no flag is forbidden; it is asked for them before it takes a job
    forbiddenFlags: () => begun,
    preset: {
      worker: {
        concurrentJobs: concurrency,
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
    begin,
    async stop() {
      // it waits for whoever waits for his first job
      begin()
      await stopOnce(runner)
    },
  }
}

/** It says info at every job: here that is debug. What it calls an error is mostly a lost connection, which the worker itself reports once. */
const LEVELS = { error: 'warn', warning: 'warn', info: 'debug', debug: 'trace' } as const

async function stopOnce(runner: Runner): Promise<void> {
  try {
    await runner.stop()
  } catch {
    // it ended by itself already, or its last words did not reach the database: tick frees what it held
  }
}
