/**
 * The connections of one life of a worker: a pool of `pg` whose sockets are ours, so that abandon() ends them even where the server is gone
 * and answers no goodbye.
 *
 * After abandon() every question is answered with nothing. The library repeats "this job is done" up to twenty times, at last half a
 * minute apart, and cannot be told to stop; the jobs it speaks of are freed by tick, as those of a dead worker.
 */
import { Socket } from 'node:net'
import pg from 'pg'
import { parseDatabaseUrl, pgConfig } from '../postgres/database-url.js'
import { findPrimary } from '../postgres/find-primary.js'

export interface JobPool {
  pool: pg.Pool
  /** Ends every connection at once. Idempotent. */
  abandon(): void
}

export interface JobPoolOptions {
  databaseUrl: string
  connections: number
}

/** Of a claim of one window or a reap of one batch, many times over. */
const STATEMENT_TIMEOUT_MS = 60_000
/** That a job was taken or is done need not survive a crash, it is only done again. What is placed does wait, see wait_for_disk(). */
const WAIT_FOR_NO_DISK = '-c synchronous_commit=off'

export async function openJobPool({ databaseUrl, connections }: JobPoolOptions): Promise<JobPool> {
  const config = pgConfig(await findPrimary(parseDatabaseUrl(databaseUrl)), {
    application_name: 'mooring worker: jobs',
    options: WAIT_FOR_NO_DISK,
  })
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
    max: connections,
    idleTimeoutMillis: 0, // kept warm
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: STATEMENT_TIMEOUT_MS + 5_000,
  })
  // without these two an idle connection that breaks would end the process
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  forgiveSecondRelease(pool)
  return {
    pool,
    abandon() {
      Object.assign(pool, { connect: () => Promise.resolve(NOBODY) })
      for (const socket of sockets) socket.destroy()
    },
  }
}

/**
 * When a connection is killed in the moment the library begins to listen on it, the library gives it back twice, and the pool's protest
 * is a rejection nobody handles, which ends the process. The second time means nothing.
 */
function forgiveSecondRelease(pool: pg.Pool): void {
  type Taken = (
    error: Error | undefined,
    client: pg.PoolClient | undefined,
    release: pg.PoolClient['release'],
  ) => void
  const connect = pool.connect.bind(pool) as unknown as (
    taken?: Taken,
  ) => Promise<pg.PoolClient> | undefined
  Object.assign(pool, {
    // the library takes the connection it listens on by callback, and the others by promise
    connect: (taken?: Taken) =>
      taken
        ? connect((error, client, release) => taken(error, client, once(release)))
        : connect()?.then((client) => Object.assign(client, { release: once(client.release) })),
  })
}

function once(release: pg.PoolClient['release']): pg.PoolClient['release'] {
  let released = false
  return (error) => {
    if (!released) release(error)
    released = true
  }
}

const NOBODY = { query: () => Promise.resolve({ rows: [], rowCount: 0 }), release() {} }
