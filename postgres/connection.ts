/**
 * A lane: one connection to Postgres with a deadline on every call.
 *
 * The driver has no client-side timeout, and a cut network, a paused server or a commit that waits for a lost standby answer nothing, for
 * minutes or for ever. So a call that misses its deadline takes its whole client with it: the sockets are ours and are destroyed at once,
 * what was in flight rejects, and the next call opens a new client. Nothing is repaired.
 */
import { connect as dialSocket, type Socket } from 'node:net'
import postgres, { type Sql } from 'postgres'
import { parseDatabaseUrl, postgresOptions, withHost, type HostAndPort } from './database-url.js'

export interface Lane {
  /**
   * Runs one query. Rejects with code CALL_DEADLINE when it takes longer than deadlineMs on this machine's monotonic clock; the server gives up
   * on it then too, so a client that went away leaves no backend waiting for a lock.
   */
  run<T>(deadlineMs: number, query: (sql: Sql) => PromiseLike<T>): Promise<T>
  /** Destroys the connection; what is in flight rejects with code CLIENT_DROPPED, later calls with LANE_CLOSED. Idempotent. */
  close(): void
}

export interface LaneOptions {
  databaseUrl: string
  /** Shown in pg_stat_activity. */
  applicationName: string
  /** Close the connection when it was idle so long; left out: keep it warm. */
  idleTimeoutSeconds?: number
  /** A connection was lost or closed; whatever comes next may come from another server. */
  onDisconnect?: () => void
}

export class LaneError extends Error {
  readonly code: 'CALL_DEADLINE' | 'LANE_CLOSED' | 'CLIENT_DROPPED'

  constructor(code: LaneError['code'], message: string) {
    super(message)
    this.name = 'LaneError'
    this.code = code
  }
}

/** From SYN to the end of the login. */
const CONNECT_TIMEOUT_MS = 3_000
const KEEP_ALIVE_SECONDS = 15

interface Client {
  sql: Sql
  /** Of each statement, on the server. */
  timeoutMs: number
  /** Rejects of the calls in flight. */
  waiting: Set<(error: unknown) => void>
  /** False when it will never answer again. */
  usable(): boolean
  drop(error: unknown): void
}

export function createLane(options: LaneOptions): Lane {
  let client: Client | null = null
  let closed = false
  /** Counts on from client to client, so that a dead first host does not cost every new client its connect timeout. */
  const hosts = { next: 0 }

  function clientFor(deadlineMs: number): Client {
    if (client !== null && client.timeoutMs < deadlineMs)
      client.drop(new LaneError('CLIENT_DROPPED', 'replaced by a connection with a longer timeout'))
    if (client === null || !client.usable())
      client = openClient(options, hosts, Math.ceil(deadlineMs))
    return client
  }

  return {
    async run(deadlineMs, query) {
      if (closed) throw new LaneError('LANE_CLOSED', 'the connection is closed')
      const used = clientFor(deadlineMs)
      return await new Promise((resolve, reject) => {
        const timer = setTimeout(
          () =>
            used.drop(
              new LaneError(
                'CALL_DEADLINE',
                `the database did not answer within ${Math.round(deadlineMs)} ms`,
              ),
            ),
          deadlineMs,
        )
        const settle = (then: () => void): void => {
          clearTimeout(timer)
          used.waiting.delete(fail)
          then()
        }
        const fail = (error: unknown): void => settle(() => reject(error))
        used.waiting.add(fail)
        query(used.sql).then((value) => settle(() => resolve(value)), fail)
      })
    },
    close() {
      closed = true
      client?.drop(new LaneError('CLIENT_DROPPED', 'the connection is closed'))
      client = null
    },
  }
}

function openClient(options: LaneOptions, hosts: { next: number }, timeoutMs: number): Client {
  const url = parseDatabaseUrl(options.databaseUrl)
  // the driver knows one host; which one that is at the moment is dial's business
  const target = postgresOptions(withHost(url, url.hosts[0]!))
  const sockets = new Set<Socket>()
  const waiting = new Set<(error: unknown) => void>()
  let dropped = false
  let last: Socket | null = null

  function drop(error: unknown): void {
    dropped = true
    for (const fail of [...waiting]) fail(error)
    for (const socket of sockets) socket.destroy()
  }

  /** Called by the driver for every connection it makes: the only way to a socket, so that drop() leaves none. */
  async function dial(): Promise<Socket> {
    let failure: unknown = new LaneError('CLIENT_DROPPED', 'the connection was dropped')
    // a proxy without a server takes a connection and closes it: the driver would dial again at once, and again; a caller waits between its attempts
    if (last?.bytesRead === 0)
      drop(
        (failure = new LaneError(
          'CLIENT_DROPPED',
          'the connection was closed before the server said anything',
        )),
      )
    for (let tried = 0; tried < url.hosts.length && !dropped; tried += 1) {
      const at = url.hosts[hosts.next++ % url.hosts.length]!
      const socket = dialHost(at)
      // the driver removes foreign listeners, so closed sockets are found here and not by their 'close' event
      for (const old of sockets) if (old.destroyed) sockets.delete(old)
      sockets.add(socket)
      try {
        await connected(socket)
        last = socket
        // the name TLS checks; where this turns out to be a standby, the driver or the next call dials again and the next host is asked
        return Object.assign(socket, { host: at.host })
      } catch (error) {
        socket.destroy()
        failure = error
      }
    }
    // the driver tells one query of this and keeps the others for a 'close' of the socket it never had: they would wait for ever
    drop(failure)
    throw failure
  }

  const settings: postgres.Options<Record<string, never>> & { socket: () => Promise<Socket> } = {
    ...target,
    max: 1,
    // no queries of the driver's own: one of them would reject unhandled when the connection dies while it is being made
    fetch_types: false,
    max_lifetime: null,
    idle_timeout: options.idleTimeoutSeconds,
    connect_timeout: CONNECT_TIMEOUT_MS / 1000,
    keep_alive: KEEP_ALIVE_SECONDS,
    // callers wait between their attempts; this is the driver's own wait before it reopens a lost connection
    backoff: () => 0.02,
    onnotice: () => {},
    ...(options.onDisconnect ? { onclose: options.onDisconnect } : {}),
    connection: {
      ...target.connection,
      application_name: options.applicationName.slice(0, 63),
      statement_timeout: timeoutMs,
    },
    socket: dial,
  }

  return { sql: postgres(settings), timeoutMs, waiting, usable: () => !dropped, drop }
}

function dialHost({ host, port }: HostAndPort): Socket {
  return host.startsWith('/')
    ? dialSocket(`${host}/.s.PGSQL.${port}`)
    : dialSocket({ host, port, noDelay: true })
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () =>
        socket.destroy(
          Object.assign(new Error('no answer from the database server'), {
            code: 'CONNECT_TIMEOUT',
          }),
        ),
      CONNECT_TIMEOUT_MS,
    )
    socket.once('connect', () => finish(resolve))
    socket.once('error', (error) => finish(() => reject(error)))
    socket.once('close', () =>
      finish(() => reject(new LaneError('CLIENT_DROPPED', 'the connection was dropped'))),
    )
    function finish(settle: () => void): void {
      clearTimeout(timer)
      socket.removeAllListeners('connect')
      settle()
    }
  })
}
