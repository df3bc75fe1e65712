import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { committedMigrations, type CommittedMigration } from './committed-migrations.js'
import { parseDatabaseUrl, pgConfig } from '../database-url.js'
import { installJobsSchema } from '../jobs-schema.js'
import { settingOptions } from '../session-settings.js'
import { MigrateError, type MigrateOrder, type MigrateResult } from './result.js'
import {
  openMigrationSession,
  runMigration,
  type AppliedMigration,
  type MigrationSession,
} from './queries.js'
import { findPrimary } from '../find-primary.js'

/**
 * The steps of `migrate`. A session that waits for a table lock makes every later reader and writer
 * of that table wait behind it, heartbeats included. So no step waits longer than LOCK_TIMEOUT_MS,
 * and all other sessions proceed between two tries.
 */
export async function runMigrations(
  order: MigrateOrder,
  log: (message: string) => void,
  signal?: AbortSignal,
): Promise<MigrateResult> {
  const url = await findPrimary(parseDatabaseUrl(order.databaseUrl))
  const files = committedMigrations(order.folder)
  const session = await openMigrationSession(url)
  // a statement that has begun is rolled back when the server finds its client gone
  const abort = () => void session.close()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    await session.lock(() => log('another migration of this database is running; waiting for it'))
    const before = await session.appliedMigrations()
    refuseForeignHistory(before, files)
    const tries = { session, log, until: performance.now() + order.retryForMs, signal }
    // apart from the session that watches what blocks it
    const work = pgConfig(url, {
      application_name: APPLICATION_NAME,
      options: settingOptions(WORK_SETTINGS),
    })
    await withoutBlocking(tries, () => installJobsSchema(work))
    for (const migration of files.slice(before.length))
      await withoutBlocking(tries, () => runMigration(work, migration, signal))
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
    signal?.removeEventListener('abort', abort)
    await session.close()
  }
}

export const LOCK_TIMEOUT_MS = 500
const APPLICATION_NAME = 'mooring migrate'
const PAUSE_MS = 500
const WORK_SETTINGS = {
  // an unqualified name must fail here, not find a table by chance
  search_path: 'pg_catalog',
  lock_timeout: String(LOCK_TIMEOUT_MS),
}

/** Refuses a database with newer or other migrations than this program has. */
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
      `the database was migrated with another version of ${different.filename}`,
      {
        code: 'MIGRATION_DIFFERS',
        detail:
          'A migration is never changed after its release. ' +
          'An unreleased build or another program made this database.',
        hint: 'use the program that made this database, or start with an empty database',
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

interface Tries {
  session: MigrationSession
  log: (message: string) => void
  until: number
  /** What gives up in the end. */
  what?: string
  signal: AbortSignal | undefined
}

/** Repeats the step while another session holds a lock it needs. Committed parts stay. */
export async function withoutBlocking(
  { session, log, until, signal, what = 'migration' }: Tries,
  step: () => Promise<unknown>,
): Promise<void> {
  for (let reported = ''; ;) {
    signal?.throwIfAborted()
    const watch = watchBlockers(session)
    try {
      await step()
      return
    } catch (error) {
      const { code } = error as Error & { code?: string }
      // lock_not_available, deadlock_detected
      if (code !== '55P03' && code !== '40P01') throw error
      const blockers = (await watch.stop()).join(', ') || 'another session'
      if (performance.now() > until) {
        throw new MigrateError(`the ${what} gave up: ${blockers} holds a lock that it needs`, {
          code: '55P03',
          hint:
            'end that transaction (select pg_terminate_backend(pid)), then try again; ' +
            'unfinished steps have changed nothing',
        })
      }
      const pids = blockers.replaceAll(/ for \d+ s/g, '')
      if (pids !== reported)
        log(`a lock is held by ${blockers}; trying again until it is free, without blocking others`)
      reported = pids
    } finally {
      await watch.stop()
    }
    await pause(PAUSE_MS * (0.75 + Math.random() / 2))
  }
}

/** Collects the blocking sessions. They can be observed only while they block. */
function watchBlockers(session: MigrationSession): { stop(): Promise<string[]> } {
  const stopped = new AbortController()
  let blockers: string[] = []
  const watching = (async () => {
    while (!stopped.signal.aborted) {
      await pause(LOCK_TIMEOUT_MS / 4, undefined, { signal: stopped.signal }).catch(() => {})
      const now = stopped.signal.aborted
        ? []
        : await session.blockersOf(APPLICATION_NAME).catch(() => [])
      if (now.length > 0) blockers = now
    }
  })()
  return {
    async stop() {
      stopped.abort()
      await watching
      return blockers
    },
  }
}

/** Makes `insert into deployment ...` work in psql. Appended last, it hides no other table. */
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
    // this role does not own the database
    if ((error as { code?: string }).code !== '42501') throw error
    return { searchPath: 'left', searchPathLine: line }
  }
}
