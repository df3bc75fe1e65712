import { setTimeout as pause } from 'node:timers/promises'
import { Logger, migrate as runCommitted } from 'graphile-migrate'
import { runMigrations as installGraphileWorker } from 'graphile-worker'
import pg from 'pg'
import { committedMigrations, type CommittedMigration } from './committed-migrations.js'
import {
  parseDatabaseUrl,
  pgConfig,
  pgConnectionString,
  type DatabaseUrl,
} from '../database-url.js'
import { MigrateError, type MigrateOrder, type MigrateResult } from './migrate.js'
import { openMigrationSession, type AppliedMigration, type MigrationSession } from './queries.js'
import { primaryHost } from '../find-primary.js'

/**
 * The steps of `migrate`, in this process. What waits for a table lock makes every later reader and
 * writer of that table wait behind it, a heartbeat too: so no step waits longer than LOCK_TIMEOUT_MS,
 * and between two tries everybody gets through.
 */
export async function runMigrations(
  order: MigrateOrder,
  log: (message: string) => void,
): Promise<MigrateResult> {
  const url = await primaryHost(parseDatabaseUrl(order.databaseUrl))
  const files = committedMigrations(order.folder)
  const session = await openMigrationSession(url)
  try {
    await session.lock(() => log('another migration of this database is running; waiting for it'))
    const before = await session.appliedMigrations()
    refuseForeignHistory(before, files)
    const tries = { session, log, until: performance.now() + order.retryForMs }
    await withoutBlocking(tries, () => installWorkerSchema(url))
    if (before.length < files.length) {
      await withoutBlocking(tries, () =>
        runCommitted({
          connectionString: pgConnectionString(url, { application_name: APPLICATION_NAME }),
          migrationsFolder: order.folder,
          // an unqualified name must fail here and not find something by chance
          pgSettings: { search_path: 'pg_catalog', lock_timeout: String(LOCK_TIMEOUT_MS) },
          logger: SILENT, // it prints every statement of a failed migration; the error says what is needed
        }),
      )
    }
    const applied = files.slice(before.length).map(({ file }) => file)
    for (const file of applied) log(`ran ${file}`)
    const roleProblems = await session.setUpRoles()
    return {
      applied,
      version: files.at(-1)?.file ?? 'none',
      roleProblems,
      ...(await appendSearchPath(session)),
    }
  } finally {
    await session.close()
  }
}

export const LOCK_TIMEOUT_MS = 500
const APPLICATION_NAME = 'mooring migrate'
const PAUSE_MS = 500
const SILENT = new Logger(() => () => {})

/** The database's migrations must be ours, from the first one on. Newer or other ones: this program must not touch it. */
function refuseForeignHistory(
  applied: readonly AppliedMigration[],
  files: readonly CommittedMigration[],
): void {
  const newer = applied.slice(files.length).map(({ filename }) => filename)
  const different = applied.find(
    ({ filename, hash }, index) =>
      files[index] && (files[index].filename !== filename || files[index].hash !== hash),
  )
  if (different) {
    throw new MigrateError(
      `the database was migrated with another version of ${different.filename} than this program has`,
      {
        code: 'MIGRATION_DIFFERS',
        detail:
          'A migration is never changed after its release; this database was made by an unreleased build, or by another program.',
        hint: 'use the program that made this database, or start with an empty one',
      },
    )
  }
  if (newer.length > 0) {
    throw new MigrateError(`the database is newer than this program: it has ${newer.join(', ')}`, {
      code: 'DATABASE_NEWER',
      hint: 'update mooring on this host to the version that migrated the database',
    })
  }
}

async function installWorkerSchema(url: DatabaseUrl): Promise<void> {
  const pool = new pg.Pool({
    ...pgConfig(url, {
      application_name: APPLICATION_NAME,
      options: `-c lock_timeout=${LOCK_TIMEOUT_MS}`,
    }),
    max: 1,
  })
  pool.on('error', () => {})
  try {
    await installGraphileWorker({ pgPool: pool, logger: SILENT })
  } finally {
    await pool.end()
  }
}

interface Tries {
  session: MigrationSession
  log: (message: string) => void
  until: number
}

/** Tries again while somebody holds a lock that the step needs. What had committed stays; the rest was rolled back. */
async function withoutBlocking(
  { session, log, until }: Tries,
  step: () => Promise<unknown>,
): Promise<void> {
  for (let said = ''; ;) {
    const watch = watchBlockers(session)
    try {
      await step()
      return
    } catch (error) {
      const { code, message } = error as Error & { code?: string }
      // 55P03 lock_not_available, 40P01 deadlock_detected; the text is graphile-migrate's own lock, held by its command line
      if (code !== '55P03' && code !== '40P01' && message !== 'Failed to get exclusive lock')
        throw error
      const blockers = (await watch.stop()).join(', ') || 'another session'
      if (performance.now() > until) {
        throw new MigrateError(`the migration gave up: ${blockers} keeps a lock that it needs`, {
          code: '55P03',
          hint: 'end that transaction (select pg_terminate_backend(pid)) and run the migration again; it changed nothing so far that it had not finished',
        })
      }
      const pids = blockers.replaceAll(/ for \d+ s/g, '')
      if (pids !== said)
        log(
          `a lock is held by ${blockers}; trying again until it is free, without making others wait`,
        )
      said = pids
    } finally {
      await watch.stop()
    }
    await pause(PAUSE_MS * (0.75 + Math.random() / 2))
  }
}

/** Who blocked can only be seen while it blocks. */
function watchBlockers(session: MigrationSession): { stop(): Promise<string[]> } {
  const stopped = new AbortController()
  let seen: string[] = []
  const watching = (async () => {
    while (!stopped.signal.aborted) {
      await pause(LOCK_TIMEOUT_MS / 4, undefined, { signal: stopped.signal }).catch(() => {})
      const now = stopped.signal.aborted
        ? []
        : await session.blockersOf(APPLICATION_NAME).catch(() => [])
      if (now.length > 0) seen = now
    }
  })()
  return {
    async stop() {
      stopped.abort()
      await watching
      return seen
    },
  }
}

/** So that `insert into deployment ...` works in psql as it stands. Appended last: it never hides anybody's table. */
async function appendSearchPath(
  session: MigrationSession,
): Promise<Pick<MigrateResult, 'searchPath' | 'searchPathLine'>> {
  const state = await session.searchPathState()
  if (state.has_mooring) return { searchPath: 'present', searchPathLine: null }
  const path = [state.search_path, 'mooring'].filter(Boolean).join(', ')
  const line = `alter database ${pg.escapeIdentifier(state.database)} set search_path = ${path};`
  if (state.other_deployment) return { searchPath: 'left', searchPathLine: line }
  try {
    await session.setSearchPath(line)
    return { searchPath: 'set', searchPathLine: null }
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error // we are not the owner of the database
    return { searchPath: 'left', searchPathLine: line }
  }
}
