import { spawn } from 'node:child_process'
import { join } from 'node:path'
import postgres from 'postgres'
import type { Sql } from 'postgres'
import { ensureCluster } from '../../postgres/embedded/cluster.js'
import { ROOT } from './root.js'
import settings from './server-settings.json' with { type: 'json' }

/**
 * The server all test files share. `npm test` starts one and hands its address down. A single
 * `tap run` starts one below .mooring/test. A keeper (server-keeper.mjs) stops that one when no
 * client has been connected for a while.
 */
export interface TestServer {
  /** connected to the server's maintenance database, as its superuser */
  admin: Sql
  urlOf(database: string): string
  /** Once per testServer(): with the last one the connection ends. */
  release(): Promise<void>
}

let shared: { users: number; opened: Promise<Omit<TestServer, 'release'>> } | undefined

export async function testServer(): Promise<TestServer> {
  const mine = (shared ??= { users: 0, opened: open() })
  mine.users++
  const { admin, urlOf } = await mine.opened
  return {
    admin,
    urlOf,
    async release() {
      if (--mine.users > 0) return
      if (shared === mine) shared = undefined
      await admin.end({ timeout: 1 })
    },
  }
}

async function open(): Promise<Omit<TestServer, 'release'>> {
  const given = process.env.MOORING_TEST_SERVER
  if (given) return { admin: connect(given), urlOf: (database) => at(given, database) }
  for (let tries = 1; ; tries++) {
    const cluster = await ensureCluster({
      stateDir: join(ROOT, '.mooring', 'test'),
      durable: false,
      settings,
    })
    const admin = connect(cluster.url)
    try {
      const [keeper] = await admin<{ there: boolean }[]>`
        select exists (
          select from pg_stat_activity a
          where a.application_name = 'test server keeper'
        ) as there`
      if (!keeper?.there) startKeeper(cluster.url, cluster.dataDir)
      return { admin, urlOf: (database) => at(cluster.url, database) }
    } catch (error) {
      await admin.end({ timeout: 1 })
      if (tries === 5) throw error // else the keeper has just stopped it
    }
  }
}

function startKeeper(url: string, dataDir: string): void {
  const { NODE_OPTIONS: _, ...env } = process.env
  spawn(process.execPath, [join(ROOT, 'test', 'helpers', 'server-keeper.mjs'), dataDir], {
    detached: true,
    stdio: 'ignore',
    env: { ...env, KEEPER_URL: url },
  }).unref()
}

const connect = (url: string): Sql =>
  postgres(url, { max: 3, onnotice: () => {}, connection: { application_name: 'test admin' } })

const at = (url: string, database: string): string =>
  Object.assign(new URL(url), { pathname: `/${database}` }).href
