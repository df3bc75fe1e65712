/**
 * The connections of one life of a worker. This module makes the sockets of the `pg` pool, so that
 * abandon() ends them even when the server is gone, and asks the server to give up their
 * statements.
 *
 * After abandon() every query returns no rows. The library repeats "this job is done" up to twenty
 * times, at last half a minute apart, and cannot be stopped from doing so. tick frees those jobs
 * like the jobs of a dead worker.
 */
import { Socket } from 'node:net'
import pg from 'pg'
import { parseDatabaseUrl, pgConfig } from '../postgres/database-url.js'
import { cancelRequest } from '../postgres/cancel-request.js'
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

/** Many times the duration of a claim of one window or a reap of one batch. */
const STATEMENT_TIMEOUT_MS = 60_000
/**
 * A lost "job started" or "job done" only repeats the job, so these commits do not wait for the
 * disk. Placements do wait, see require_durable_commit().
 */
const WAIT_FOR_NO_DISK = '-c synchronous_commit=off'

export async function openJobPool({ databaseUrl, connections }: JobPoolOptions): Promise<JobPool> {
  const url = await findPrimary(parseDatabaseUrl(databaseUrl))
  const config = pgConfig(url, {
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
  // without these two listeners a broken idle connection ends the process
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  const clients = new Set<pg.PoolClient>()
  pool.on('connect', (client) => clients.add(client))
  pool.on('remove', (client) => clients.delete(client))
  forgiveSecondRelease(pool)
  return {
    pool,
    abandon() {
      Object.assign(pool, { connect: () => Promise.resolve(NO_CLIENT) })
      for (const socket of sockets) socket.destroy()
      for (const client of clients) void cancelRequest(url.hosts[0]!, backendOf(client))
    },
  }
}

/**
 * The library releases a connection twice when the connection is killed just as the library begins
 * to listen on it. The pool then throws, as a rejection that nothing handles and that ends the
 * process. So the second release is ignored.
 */
function forgiveSecondRelease(pool: pg.Pool): void {
  type OnConnect = (
    error: Error | undefined,
    client: pg.PoolClient | undefined,
    release: pg.PoolClient['release'],
  ) => void
  const connect = pool.connect.bind(pool) as unknown as (
    onConnect?: OnConnect,
  ) => Promise<pg.PoolClient> | undefined
  Object.assign(pool, {
    // the library gets its listening connection by callback, and the others by promise
    connect: (onConnect?: OnConnect) =>
      onConnect
        ? connect((error, client, release) => onConnect(error, client, once(release)))
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

function backendOf(client: pg.PoolClient) {
  const { processID: pid = null, secretKey: secret = null } = client as {
    processID?: number | null
    secretKey?: number | null
  }
  return { pid, secret }
}

const NO_CLIENT = { query: () => Promise.resolve({ rows: [], rowCount: 0 }), release() {} }
