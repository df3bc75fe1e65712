/**
 * The worker: runs the rounds and the jobs that triggers ask for. Any number of them may run, on any hosts; none is needed for safety.
 *
 * A worker lives as a row of lives, like an agent as a row of sessions. One life is a connection pool, two runners (place, evict and prune share
 * one; reap has its own, so that five hundred place jobs never keep a dead host's work waiting), a metronome, and a name for tick. When a
 * connection is lost the whole life is thrown away and a new one is made, for ever: left to itself the library would take
 * up to a minute to listen again, and two to look again. What an old life still holds is freed by its silence, as after a crash.
 */
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { hostname } from 'node:os'
import pg from 'pg'
import type { Logger } from 'pino'
import { createBackoff, describeError, pause } from '../agent/retry.js'
import { parseDatabaseUrl, pgConfig } from '../cli/database-url.js'
import { primaryHost } from '../cli/primary-host.js'
import { createWorkerDb } from './db.js'
import { startJobRunner, type JobRunner } from './job-runner.js'
import { createMetronome } from './metronome.js'
import { evict } from './tasks/evict.js'
import { place } from './tasks/place.js'
import { prune } from './tasks/prune.js'
import { reap } from './tasks/reap.js'

export interface WorkerConfig {
  /** postgres:// URL of a direct connection (the worker LISTENs). Holds a password: never logged. */
  databaseUrl: string
  /** Jobs at once in the runner of place, evict and prune, default 2; reap has one slot of its own beside it. */
  concurrency?: number
  log: Logger
}

export interface Worker {
  /** Returns at once. The database may be down: it is tried for ever. */
  start(): void
  /** Resolves when nothing is left: the running jobs done and unlocked, connections closed. Idempotent, legal before start. */
  stop(): Promise<void>
}

/** Placement is serialised in the database: one runs, one waits, and a third would be sent home. */
export const DEFAULT_CONCURRENCY = 2
/** A job that takes longer to end, or to say that it has, is left to the other workers. */
export const STOP_TIMEOUT_MS = 10_000
const RETRY_MS = { first: 100, max: 2_000 }
const STATEMENT_TIMEOUT_MS = 60_000

export function createWorker({ databaseUrl, concurrency = DEFAULT_CONCURRENCY, log }: WorkerConfig): Worker {
  const stopping = new AbortController()
  const backoff = createBackoff(RETRY_MS.first, RETRY_MS.max)
  const retired = new Set<Promise<void>>()
  let loop: Promise<void> | null = null
  let away = false

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        await live()
      } catch (error) {
        if (!away && !stopping.signal.aborted) log.warn({ event: 'worker_away', ...describeError(error) }, 'the database cannot be reached; trying again until it can')
        away = true
      }
      await pause(backoff.nextMs(), stopping.signal)
    }
    await Promise.all(retired)
  }

  /** One life. Resolves when stop was asked and nothing is left; rejects when a connection is lost. */
  async function live(): Promise<void> {
    const name = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`
    const broken = new AbortController()
    const onBroken = (error: unknown): void => broken.abort(error)
    const { pool, destroy } = await openPool(databaseUrl, concurrency)
    const runners: JobRunner[] = []
    const db = createWorkerDb({ databaseUrl })
    // until the runners are up there is nothing to end gracefully
    stopping.signal.addEventListener('abort', destroy)
    try {
      for (const [taskList, slots] of [[{ place, evict, prune }, concurrency], [{ reap }, 1]] as const) {
        runners.push(await startJobRunner({ pgPool: pool, taskList, concurrency: slots, onBroken, log }))
      }
      stopping.signal.removeEventListener('abort', destroy)
      const metronome = createMetronome({ db, worker: name, poolIds: runners.map((runner) => runner.poolId), onSilence: onBroken, log })
      metronome.start()
      log.info({ event: 'worker_started', worker: name, concurrency }, away ? 'the worker is back' : 'the worker runs')
      away = false
      backoff.reset()
      await either(stopping.signal, broken.signal)
      await metronome.stop()
      if (!stopping.signal.aborted) throw broken.signal.reason
    } finally {
      stopping.signal.removeEventListener('abort', destroy)
      db.close()
      const gone = end(runners, pool, destroy)
      // a broken life gives back its jobs when it can, behind the new one's back
      if (stopping.signal.aborted) await gone
      else retire(gone)
    }
  }

  function retire(gone: Promise<void>): void {
    retired.add(gone)
    void gone.then(() => retired.delete(gone))
  }

  async function end(runners: readonly JobRunner[], pool: pg.Pool, destroy: () => void): Promise<void> {
    const ended = Promise.all(runners.map((runner) => runner.stop())).then(() => pool.end()).catch(() => {})
    const patience = new AbortController()
    await Promise.race([ended, pause(STOP_TIMEOUT_MS, patience.signal)])
    patience.abort()
    destroy()
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

/** A pool whose sockets are ours: destroy() ends them even where the server is gone and answers no goodbye. */
async function openPool(databaseUrl: string, concurrency: number): Promise<{ pool: pg.Pool; destroy(): void }> {
  const config = pgConfig(await primaryHost(parseDatabaseUrl(databaseUrl)), { application_name: 'mooring worker: jobs' })
  const sockets = new Set<Socket>()
  const stream = (): Socket => {
    const socket = new Socket().setNoDelay(true)
    socket.once('close', () => sockets.delete(socket))
    sockets.add(socket)
    return socket
  }
  const pool = new pg.Pool({
    ...config,
    stream,
    // each runner: its slots and the connection that listens; and one for its own bookkeeping
    max: concurrency + 4,
    idleTimeoutMillis: 0,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS + 5_000,
  })
  // without these two an idle connection that breaks would end the process
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  return {
    pool,
    destroy() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

function either(...signals: readonly AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of signals) {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    }
  })
}
