import pg from 'pg'
import { parseDatabaseUrl } from '../database-url.js'
import { findPrimary } from '../find-primary.js'
import { openMigrationSession } from './queries.js'
import { MigrateError, type MigrateFailure } from './result.js'
import { LOCK_TIMEOUT_MS, withoutBlocking } from './steps.js'
import { openUninstallSession, type Installed } from './uninstall-queries.js'

export interface UninstallOptions {
  databaseUrl: string
  /** Drops the group roles of the cluster too. */
  roles: boolean
  /** Gets what will go. The database is unchanged where it throws. */
  confirm: (plan: UninstallPlan) => Promise<void>
  log?: (message: string) => void
  retryForMs?: number
}

export interface UninstallPlan {
  database: string
  schemas: string[]
  tables: number
  functions: number
  deployments: number
  events: number
  /** The group roles that go, and those that stay. */
  roles: string[]
  rolesLeft: string[]
  /** `reset` or `set` without mooring; `left` where this login may not alter the database. */
  searchPath: 'reset' | 'set' | 'left' | 'absent'
  searchPathLine: string | null
  /** Silent nodes whose `keep` work may run on. */
  mayStillRun: string[]
}

/**
 * Takes out of the database what migrations put there, in one transaction. It refuses while agents
 * or workers live, and where an object of the application depends on one of Mooring.
 * Resolves with null where there is nothing of Mooring.
 */
export async function uninstall({
  databaseUrl,
  roles,
  confirm,
  log = () => {},
  retryForMs = RETRY_FOR_MS,
}: UninstallOptions): Promise<UninstallPlan | null> {
  try {
    const url = await findPrimary(parseDatabaseUrl(databaseUrl))
    const watch = await openMigrationSession(url)
    try {
      await watch.lock(() => log('a migration of this database is running; waiting for it'))
      const session = await openUninstallSession(url, {
        search_path: 'pg_catalog',
        lock_timeout: String(LOCK_TIMEOUT_MS),
      })
      try {
        const seen = await session.installed()
        refuse(seen)
        const plan = planOf(seen, roles)
        if (plan.schemas.length === 0 && plan.searchPath === 'absent' && plan.roles.length === 0)
          return null
        await confirm(plan)
        const tries = {
          what: 'uninstall',
          session: watch,
          log,
          until: performance.now() + retryForMs,
          signal: undefined,
        }
        await withoutBlocking(tries, async () => {
          try {
            await session.begin(seen.complete)
            // an agent or an object may have come while the question stood
            refuse(await session.installed())
            await session.drop({
              schemas: plan.schemas,
              roles: plan.roles,
              searchPathLine: plan.searchPath === 'left' ? null : plan.searchPathLine,
            })
            await session.commit()
          } catch (error) {
            await session.rollback()
            throw error
          }
        })
        return plan
      } finally {
        await session.close()
      }
    } finally {
      await watch.close()
    }
  } catch (thrown) {
    const error = (thrown instanceof AggregateError ? thrown.errors[0] : thrown) as Error
    const { code, routine } = error as Error & { code?: string; routine?: string }
    // only the server's errors have a routine; the question's own errors pass as they are
    if (routine === undefined && !(thrown instanceof AggregateError)) throw error
    throw new MigrateError(error.message, {
      ...(error as MigrateFailure),
      code,
      ...(roles && (code === '2BP01' || code === '42501') ? { hint: ROLES_HINT } : {}),
    })
  }
}

const RETRY_FOR_MS = 60_000
const ROLES_HINT =
  'roles belong to the cluster, and another database may use them; nothing was changed: ' +
  'leave out --roles'

function refuse({ running, dependents, owns_schemas, database }: Installed): void {
  if (!owns_schemas)
    throw new MigrateError(`this login does not own the schemas of Mooring in ${database}`, {
      code: '42501',
      hint: 'set DATABASE_URL to the login that ran `mooring migrate`',
    })
  if (running.length > 0)
    throw new MigrateError(`Mooring still runs on ${database}: ${running.join(', ')}`, {
      code: 'STILL_RUNNING',
      hint:
        'stop the agents and the workers with SIGTERM, then uninstall; ' +
        'a host that died counts until its lease is over',
    })
  if (dependents.length > 0)
    throw new MigrateError(
      `objects outside the schemas of Mooring depend on it: ${dependents.join(', ')}`,
      {
        code: '2BP01',
        hint: 'drop or change them first, or take the tables out of the publication',
      },
    )
}

function planOf(seen: Installed, roles: boolean): UninstallPlan {
  return {
    database: seen.database,
    schemas: seen.schemas,
    tables: seen.tables,
    functions: seen.functions,
    deployments: seen.deployments,
    events: seen.events,
    roles: roles ? seen.roles : [],
    rolesLeft: roles ? [] : seen.roles,
    mayStillRun: seen.may_still_run,
    ...searchPathWithout(seen),
  }
}

/** The setting as it was before `migrate` appended to it. */
function searchPathWithout({
  database,
  search_path,
  server_search_path,
  owns_database,
}: Installed): Pick<UninstallPlan, 'searchPath' | 'searchPathLine'> {
  const entries = entriesOf(search_path ?? '')
  const rest = entries.filter((entry) => !/^("mooring"|mooring)$/i.test(entry))
  if (rest.length === entries.length) return { searchPath: 'absent', searchPathLine: null }
  const isDefault =
    rest.length === 0 || rest.join(', ') === entriesOf(server_search_path).join(', ')
  const change = isDefault ? 'reset search_path' : `set search_path = ${rest.join(', ')}`
  return {
    searchPath: owns_database ? (isDefault ? 'reset' : 'set') : 'left',
    searchPathLine: `alter database ${pg.escapeIdentifier(database)} ${change};`,
  }
}

/** A quoted name may hold a comma. */
const entriesOf = (path: string): string[] =>
  [...path.matchAll(/"(?:[^"]|"")*"|[^\s,"]+/g)].map(([entry]) => entry)
