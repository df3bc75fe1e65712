/**
 * The server benchmarks run on: the same binaries and settings as `mooring up` gives a user, fsync
 * and all, in a folder of its own that is gone afterwards. Only max_connections is higher, for the
 * benchmarks that need hundreds of sessions.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import postgres, { type Sql } from 'postgres'
import { ensureCluster } from '../postgres/embedded/cluster.js'
import { migrate } from '../postgres/migrate/migrate.js'

export interface Database {
  url: string
  /** At most 4 connections. */
  sql: Sql
  /** Other sessions of this database, for listeners, snapshots and crowds; closed with it. */
  connect(max: number, applicationName?: string): Sql
  /**
   * The whole server: stopped in order, started `awayMs` later, under the same address. Resolves
   * when it answers.
   */
  restart(awayMs: number): Promise<void>
}

export interface Server {
  version: string
  inDatabase<T>(use: (database: Database) => Promise<T>): Promise<T>
  /** Every session and every placement of the databases there are, as text for an error. */
  describe(): Promise<string>
  /** Idempotent. */
  stop(): Promise<void>
}

const TEMPLATE = 'bench_template'
const SETTINGS = { max_connections: '700' }

export async function startServer(stateRoot: string): Promise<Server> {
  mkdirSync(stateRoot, { recursive: true })
  const stateDir = mkdtempSync(join(resolve(stateRoot), 'bench-'))
  chmodSync(stateDir, 0o755) // the server's user has to get in
  let cluster = await ensureCluster({ stateDir, settings: SETTINGS })
  const urlOf = (database: string): string =>
    Object.assign(new URL(cluster.url), { pathname: `/${database}` }).href
  const admin = open(cluster.url, 1, 'bench: admin')
  let stopping: Promise<void> | undefined

  async function stop(): Promise<void> {
    await admin.end({ timeout: 1 })
    await cluster.stop()
    // where the server's user cannot get into the state folder, its files are somewhere else
    for (const folder of [dirname(cluster.dataDir), stateDir])
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }

  async function inDatabase<T>(use: (database: Database) => Promise<T>): Promise<T> {
    const name = `bench_${randomBytes(4).toString('hex')}`
    await admin.unsafe(`create database ${name} template ${TEMPLATE} strategy file_copy`)
    const url = urlOf(name)
    const clients: Sql[] = []
    const connect = (max: number, applicationName = 'bench'): Sql => {
      const client = open(url, max, applicationName)
      clients.push(client)
      return client
    }
    try {
      const sql = connect(4)
      // the marker came from the template and is foreign here: without this a hold would begin
      await sql`select mooring_internal.write_outage_marker()`
      return await use({
        url,
        sql,
        connect,
        async restart(awayMs) {
          await cluster.stop()
          await pause(awayMs)
          cluster = await ensureCluster({ stateDir, settings: SETTINGS })
        },
      })
    } finally {
      await Promise.all(clients.map((client) => client.end({ timeout: 1 }).catch(() => {})))
      await admin.unsafe(`drop database if exists ${name} with (force)`)
    }
  }

  async function describe(): Promise<string> {
    const sessions = await admin`
      select s.datname, s.pid, s.application_name, s.state, s.wait_event, s.query_start, s.query
        from pg_catalog.pg_stat_activity s
       where s.backend_type = 'client backend'
       order by s.datname, s.pid`
    const lines = sessions.map((session) => JSON.stringify(session))
    for (const name of new Set(sessions.map(({ datname }) => String(datname))))
      if (name.startsWith('bench_')) {
        const client = open(urlOf(name), 1, 'bench: describe')
        const placements = await client`select * from mooring.placement`
        lines.push(name, ...placements.map((placement) => JSON.stringify(placement)))
        await client.end({ timeout: 1 })
      }
    return lines.join('\n')
  }

  try {
    await admin.unsafe(`create database ${TEMPLATE}`)
    await migrate({ databaseUrl: urlOf(TEMPLATE) })
    const [row] = await admin<
      { version: string }[]
    >`select current_setting('server_version') as version`
    return { version: row!.version, inDatabase, describe, stop: () => (stopping ??= stop()) }
  } catch (error) {
    await stop()
    throw error
  }
}

/** idle_timeout would end sessions that a benchmark keeps open on purpose. */
function open(url: string, max: number, applicationName: string): Sql {
  return postgres(url, {
    max,
    max_lifetime: null,
    onnotice: () => {},
    connection: { application_name: applicationName },
  })
}
