/**
 * A server of a file's own, for stories that kill, stop or promote it, and a migrated database on
 * it for each of them.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import postgres from 'postgres'
import type { Test } from 'tap'
import { freePort } from '../../host/free-port.js'
import { ensureCluster, stopCluster } from '../../postgres/embedded/cluster.js'
import { findBinaries } from '../../postgres/embedded/binaries.js'
import { run } from '../../postgres/embedded/data-folder.js'
import { serverIdentity } from '../../postgres/embedded/identity.js'
import { postmasterPid } from '../../postgres/embedded/postmaster.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { pauseServer } from '../helpers/own-server.js'
import { tempDir } from '../helpers/processes.js'
import { openSession, type Session } from './stage.js'

export interface OwnServer {
  /**
   * A migrated database of this story, and a session in it; to be asked for again after a restart.
   */
  open(name?: string): Promise<Session>
  killPostmaster(): Promise<void>
  stopFast(): Promise<void>
  /** Sends every process of the server SIGSTOP; the answer lets them go on. */
  pause(): () => void
  /** The story's database under another name, as out of a dump: a session in it. */
  restored(): Promise<Session>
  /**
   * A clone of the stopped server, started as a standby: a session in it, and its promotion. It
   * ends with the story.
   */
  copyAsStandby(): Promise<{ standby: Session; url: string; promote(): Promise<void> }>
  /** The address of the story's database. */
  url: string
}

const stateDir = tempDir(t, 'crash')
const settings = { max_connections: '40', synchronous_commit: 'on', wal_writer_delay: '1s' }
const start = () => ensureCluster({ stateDir, durable: false, settings })
t.teardown(() => stopCluster({ stateDir }))
await migrate({ databaseUrl: (await start()).url })

let stories = 0

/**
 * Leases are long, so that no restart, however slow the machine, is long beside them: what holds is
 * the crash and not the time.
 */
export async function aFleetOn(t: Test): Promise<{ server: OwnServer; sql: Session['sql'] }> {
  const database = `story_${++stories}`
  const urlOf = (url: string, name: string) =>
    Object.assign(new URL(url), { pathname: `/${name}` }).href
  const { url, dataDir } = await start()
  const admin = postgres(urlOf(url, 'postgres'), { max: 1 })
  await admin.unsafe(`create database ${database} template mooring`)
  await admin.end()
  const clients: postgres.Sql[] = []
  const server: OwnServer = {
    url: urlOf(url, database),
    async open(name = 'story') {
      const client = postgres(urlOf((await start()).url, database), { max: 1, onnotice: () => {} })
      clients.push(client)
      return openSession(client, name)
    },
    async killPostmaster() {
      process.kill(postmasterPid(dataDir), 'SIGKILL')
      await Promise.all(clients.splice(0).map((client) => client.end({ timeout: 0 })))
    },
    async stopFast() {
      await Promise.all(clients.splice(0).map((client) => client.end({ timeout: 1 })))
      await stopCluster({ stateDir })
    },
    pause: () => pauseServer(t, dataDir),
    async restored() {
      await Promise.all(clients.splice(0).map((client) => client.end({ timeout: 1 })))
      const admin = postgres(urlOf((await start()).url, 'postgres'), { max: 1 })
      await admin.unsafe(`create database ${database}_restored template ${database}`)
      await admin.end()
      const client = postgres(urlOf((await start()).url, `${database}_restored`), {
        max: 1,
        onnotice: () => {},
      })
      clients.push(client)
      return openSession(client, 'restored')
    },
    async copyAsStandby() {
      await server.stopFast()
      const copy = join(dirname(dataDir), `standby-of-${database}`)
      execFileSync('cp', ['-a', dataDir, copy])
      writeFileSync(join(copy, 'standby.signal'), '')
      const identity = serverIdentity()
      const pgCtl = (...args: string[]) =>
        run(
          findBinaries(identity, process.env, () => {}),
          'pg_ctl',
          identity,
          dirname(dataDir),
          [...args, '-w', '-D', copy],
        )
      const port = await freePort()
      await pgCtl('start', '-l', `${copy}.log`, '-o', `-p ${port}`)
      t.teardown(() => pgCtl('stop', '-m', 'fast'))
      const standbyUrl = Object.assign(new URL(urlOf(url, database)), { port: String(port) }).href
      const client = postgres(standbyUrl, { max: 1, onnotice: () => {} })
      clients.push(client)
      return {
        standby: await openSession(client, 'standby'),
        url: standbyUrl,
        promote: () => pgCtl('promote'),
      }
    },
  }
  t.teardown(() => Promise.all(clients.map((client) => client.end({ timeout: 1 }))))
  const { sql } = await server.open()
  await sql`set search_path = public, mooring`
  await sql`update mooring.setting set beat_interval = '1 min', lease_ttl = '10 min'`
  return { server, sql }
}

export const hold = async (sql: Session['sql']) =>
  (
    await sql<{ hold: string | null; ends_in: number | null }[]>`
      select f.hold, extract(epoch from f.hold_until - clock_timestamp())::float8 as ends_in
        from mooring.fleet f`
  )[0]!

export const CRASHED = 'the database crashed, was promoted or restored'
