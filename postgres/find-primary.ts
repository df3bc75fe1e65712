import { Socket } from 'node:net'
import pg from 'pg'
import { raceDeadline } from '../host/deadline.js'
import { pgConfig, withHost, type DatabaseUrl } from './database-url.js'

/** A host that answers does so long before. The next one is asked then too: one that is switched off is waited for in vain for ten seconds. */
const HEAD_START_MS = 500

/**
 * The same address with one host. `pg` cannot choose among several, so they are asked in order, each with a head start,
 * and the first primary to answer wins; with one host nothing is asked. Call it again after a failover:
 * whoever rebuilds a `pg` client (worker, listener) resolves anew each time.
 */
export async function primaryHost(url: DatabaseUrl): Promise<DatabaseUrl> {
  if (url.hosts.length === 1) return url
  const over = new AbortController()
  const asked: Promise<DatabaseUrl>[] = []
  try {
    for (const host of url.hosts) {
      asked.push(primaryAt(withHost(url, host), over.signal))
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
    over.abort()
  }
}

/** Rejects with the host's name and what is wrong with it; once `over` aborts its connection is gone. */
async function primaryAt(url: DatabaseUrl, over: AbortSignal): Promise<DatabaseUrl> {
  const { host, port } = url.hosts[0]!
  const socket = new Socket()
  const client = new pg.Client({ ...pgConfig(url), stream: () => socket, query_timeout: 5_000 })
  client.on('error', () => {}) // the query's own rejection says it
  over.addEventListener('abort', () => socket.destroy())
  try {
    await client.connect()
    const { rows } = await client.query<{ primary: boolean }>(
      'select not pg_catalog.pg_is_in_recovery() as primary',
    )
    if (rows[0]?.primary === true) return url
  } catch (error) {
    throw new Error(`${host}:${port}: ${(error as Error).message}`)
  } finally {
    // not waited for: a server that stopped meanwhile says no goodbye
    client.end().catch(() => {})
    socket.destroySoon()
  }
  throw new Error(`${host}:${port} is a standby`)
}
