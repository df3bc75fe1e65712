import { Socket } from 'node:net'
import pg from 'pg'
import { raceDeadline } from '../host/deadline.js'
import { pgConfig, withHost, type DatabaseUrl } from './database-url.js'

/**
 * A live host answers within this time. After it the next host is asked too: a dead one takes 10 s.
 */
const HEAD_START_MS = 500

/**
 * The same address with the primary as its one host; a single host is not asked. `pg` cannot choose
 * among several. They are asked in order, each with a head start, and the first primary wins.
 * Each new `pg` client (worker, listener) asks again, because a failover moves the primary.
 */
export async function findPrimary(url: DatabaseUrl): Promise<DatabaseUrl> {
  if (url.hosts.length === 1) return url
  const done = new AbortController()
  const asked: Promise<DatabaseUrl>[] = []
  try {
    for (const host of url.hosts) {
      asked.push(primaryAt(withHost(url, host), done.signal))
      const found = await raceDeadline(
        HEAD_START_MS,
        Promise.any(asked).catch(() => null),
        () => null,
      )
      if (found !== null) return found
    }
    return await Promise.any(asked)
  } catch (error) {
    const problems = (error as AggregateError).errors.map((problem: Error) => problem.message)
    throw Object.assign(
      new Error(`no host of DATABASE_URL is a primary that answers (${problems.join('; ')})`),
      { code: 'ECONNREFUSED' },
    )
  } finally {
    done.abort()
  }
}

/** Rejects with the host and its problem. When `done` aborts, the connection is destroyed. */
async function primaryAt(url: DatabaseUrl, done: AbortSignal): Promise<DatabaseUrl> {
  const { host, port } = url.hosts[0]!
  const socket = new Socket()
  const client = new pg.Client({ ...pgConfig(url), stream: () => socket, query_timeout: 5_000 })
  client.on('error', () => {}) // the query rejects with it
  done.addEventListener('abort', () => socket.destroy())
  try {
    await client.connect()
    const { rows } = await client.query<{ primary: boolean }>(
      'select not pg_catalog.pg_is_in_recovery() as primary',
    )
    if (rows[0]?.primary === true) return url
  } catch (error) {
    throw new Error(`${host}:${port}: ${(error as Error).message}`)
  } finally {
    // not awaited: a server that has stopped meanwhile never closes its side
    client.end().catch(() => {})
    socket.destroySoon()
  }
  throw new Error(`${host}:${port} is a standby`)
}
