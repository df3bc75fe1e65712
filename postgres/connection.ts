/**
 * One connection to Postgres with a deadline on every call.
 *
 * The driver has no client-side timeout. A cut network, a paused server or a commit that waits for
 * a lost standby answers nothing, for minutes or for ever. So a call that misses its deadline ends
 * its whole client: its sockets are destroyed at once, all calls in flight reject, the server is
 * asked to give up, and the next call opens a new client. Nothing is repaired.
 *
 * A server that says that it is read only is left in the same way, whatever DATABASE_URL says of
 * it. Its name may lead to the primary by the next call.
 */
import type { Socket } from 'node:net'
import postgres, { type Sql } from 'postgres'
import { cancelRequest, dial, type Backend } from './cancel-request.js'
import { parseDatabaseUrl, postgresOptions, withHost, type HostAndPort } from './database-url.js'
import { errorCode, READ_ONLY_SERVER } from './errors.js'

export interface Connection {
  /**
   * Runs one query. Rejects with code CALL_DEADLINE when it takes longer than deadlineMs on this
   * machine's monotonic clock. The server ends the statement then too, so no backend of a client
   * that has gone waits for a lock.
   * `check` throws when its server must not be believed: then the server is left.
   */
  run<T>(
    deadlineMs: number,
    query: (sql: Sql) => PromiseLike<T>,
    check?: (value: T) => void,
  ): Promise<T>
  /**
   * Destroys the connection. Calls in flight reject with code CLIENT_DROPPED, later calls with
   * CALL_AFTER_CLOSE. Idempotent.
   */
  close(): void
}

export interface ConnectionOptions {
  databaseUrl: string
  /** Shown in pg_stat_activity. */
  applicationName: string
  /** Closes the connection after this idle time. Without it the connection stays open. */
  idleTimeoutSeconds?: number
  /** A connection was lost or closed. The next one may lead to another server. */
  onDisconnect?: () => void
}

export class ConnectionError extends Error {
  readonly code: 'CALL_DEADLINE' | 'CALL_AFTER_CLOSE' | 'CLIENT_DROPPED' | 'DEPOSED_SERVER'

  constructor(code: ConnectionError['code'], message: string) {
    super(message)
    this.name = 'ConnectionError'
    this.code = code
  }
}

/** From SYN to the end of the login. */
const CONNECT_TIMEOUT_MS = 3_000
const KEEP_ALIVE_SECONDS = 15

interface Client {
  sql: Sql
  /** statement_timeout on the server. */
  timeoutMs: number
  /** Rejects the calls in flight. */
  waiting: Set<(error: unknown) => void>
  /** False once the client will never answer again. */
  usable(): boolean
  drop(error: unknown): void
  /** Asks the server to give up what this backend was doing. */
  cancel(backend: Backend): void
}

export function createConnection(options: ConnectionOptions): Connection {
  let client: Client | null = null
  let closed = false
  /** Shared by all clients, so that a dead first host costs its connect timeout only once. */
  const hosts = { next: 0 }

  function clientFor(deadlineMs: number): Client {
    if (client !== null && client.timeoutMs < deadlineMs)
      client.drop(
        new ConnectionError('CLIENT_DROPPED', 'replaced by a connection with a longer timeout'),
      )
    if (client === null || !client.usable())
      client = openClient(options, hosts, Math.ceil(deadlineMs))
    return client
  }

  return {
    async run(deadlineMs, query, check = () => {}) {
      if (closed) throw new ConnectionError('CALL_AFTER_CLOSE', 'the connection is closed')
      const used = clientFor(deadlineMs)
      return await new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          used.drop(
            new ConnectionError(
              'CALL_DEADLINE',
              `the database did not answer within ${Math.round(deadlineMs)} ms`,
            ),
          )
          used.cancel(backendOf(pending))
        }, deadlineMs)
        const settle = (then: () => void): void => {
          clearTimeout(timer)
          used.waiting.delete(fail)
          then()
        }
        const fail = (error: unknown): void => settle(() => reject(error))
        used.waiting.add(fail)
        const pending = query(used.sql)
        pending.then(
          (value) => {
            try {
              check(value)
            } catch (error) {
              return used.drop(error)
            }
            settle(() => resolve(value))
          },
          (error: unknown) =>
            errorCode(error) === READ_ONLY_SERVER ? used.drop(error) : fail(error),
        )
      })
    },
    close() {
      closed = true
      client?.drop(new ConnectionError('CLIENT_DROPPED', 'the connection is closed'))
      client = null
    },
  }
}

/** The driver notes it on a query that it has sent. */
function backendOf(query: PromiseLike<unknown>): Backend {
  const { pid = null, secret = null } = (query as { state?: Partial<Backend> | null }).state ?? {}
  return { pid, secret }
}

function openClient(
  options: ConnectionOptions,
  hosts: { next: number },
  timeoutMs: number,
): Client {
  const url = parseDatabaseUrl(options.databaseUrl)
  // the driver knows one host; dialPrimary() chooses which
  const target = postgresOptions(withHost(url, url.hosts[0]!))
  const sockets = new Set<Socket>()
  const waiting = new Set<(error: unknown) => void>()
  let dropped = false
  let last: Socket | null = null
  let lastAt: HostAndPort = url.hosts[0]!

  function drop(error: unknown): void {
    dropped = true
    for (const fail of [...waiting]) fail(error)
    for (const socket of sockets) socket.destroy()
  }

  /** The driver gets every socket from here, so drop() leaves none open. */
  async function dialPrimary(): Promise<Socket> {
    let failure: unknown = new ConnectionError('CLIENT_DROPPED', 'the connection was dropped')
    // A proxy without a server accepts and closes. The driver would dial again at once, for ever;
    // callers wait between their attempts.
    if (last?.bytesRead === 0)
      drop(
        (failure = new ConnectionError(
          'CLIENT_DROPPED',
          'the connection was closed before the server said anything',
        )),
      )
    for (let tried = 0; tried < url.hosts.length && !dropped; tried += 1) {
      const at = url.hosts[hosts.next++ % url.hosts.length]!
      const socket = dial(at)
      // the driver removes foreign listeners: closed sockets are found here, not by their 'close'
      // event
      for (const old of sockets) if (old.destroyed) sockets.delete(old)
      sockets.add(socket)
      try {
        await connected(socket)
        last = socket
        lastAt = at
        // TLS checks this name. When the host is a standby, the next dial asks the next host.
        return Object.assign(socket, { host: at.host })
      } catch (error) {
        socket.destroy()
        failure = error
      }
    }
    // The driver rejects one query. The others would wait for ever for the 'close' of a socket it
    // never had, so all are rejected here.
    drop(failure)
    throw failure
  }

  const settings: postgres.Options<Record<string, never>> & { socket: () => Promise<Socket> } = {
    ...target,
    max: 1,
    // no queries of the driver's own: they reject unhandled when the connection dies during login
    fetch_types: false,
    max_lifetime: null,
    idle_timeout: options.idleTimeoutSeconds,
    connect_timeout: CONNECT_TIMEOUT_MS / 1000,
    keep_alive: KEEP_ALIVE_SECONDS,
    // the driver's wait before it reopens a lost connection; callers have back-offs of their own
    backoff: () => 0.02,
    onnotice: () => {},
    ...(options.onDisconnect ? { onclose: options.onDisconnect } : {}),
    connection: {
      ...target.connection,
      application_name: options.applicationName.slice(0, 63),
      statement_timeout: timeoutMs,
    },
    socket: dialPrimary,
  }

  return {
    sql: postgres(settings),
    timeoutMs,
    waiting,
    usable: () => !dropped,
    drop,
    cancel: (backend) => void cancelRequest(lastAt, backend),
  }
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
      finish(() => reject(new ConnectionError('CLIENT_DROPPED', 'the connection was dropped'))),
    )
    function finish(settle: () => void): void {
      clearTimeout(timer)
      socket.removeAllListeners('connect')
      settle()
    }
  })
}
