import { Socket } from 'node:net'
import pg from 'pg'
import { pgConfig, withHost, type DatabaseUrl } from './database-url.js'

/**
 * The same address with one host. `pg` cannot choose among several, so each is asked in order
 * and the first primary wins; with one host nothing is asked. Call it again after a failover:
 * whoever rebuilds a `pg` client (worker, listener) resolves anew each time.
 */
export async function primaryHost(url: DatabaseUrl): Promise<DatabaseUrl> {
  if (url.hosts.length === 1) return url
  const problems: string[] = []
  for (const host of url.hosts) {
    const candidate = withHost(url, host)
    try {
      if (await isPrimary(candidate)) return candidate
      problems.push(`${host.host}:${host.port} is a standby`)
    } catch (error) {
      problems.push(`${host.host}:${host.port}: ${(error as Error).message}`)
    }
  }
  throw Object.assign(new Error(`no host of DATABASE_URL is a primary that answers (${problems.join('; ')})`), { code: 'ECONNREFUSED' })
}

async function isPrimary(url: DatabaseUrl): Promise<boolean> {
  const socket = new Socket()
  const client = new pg.Client({ ...pgConfig(url), stream: () => socket, query_timeout: 5_000 })
  client.on('error', () => {}) // the query's own rejection says it
  try {
    await client.connect()
    const { rows } = await client.query<{ primary: boolean }>('select not pg_catalog.pg_is_in_recovery() as primary')
    return rows[0]?.primary === true
  } finally {
    // not waited for: a server that stopped meanwhile says no goodbye
    client.end().catch(() => {})
    socket.destroySoon()
  }
}
