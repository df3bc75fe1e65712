/** The database of a command, and the check that it holds the schema of this program. */
import postgres from 'postgres'
import type { Sql } from 'postgres'
import { createConnection } from '../postgres/connection.js'
import { ARRAY_TYPES } from './queries/arrays.js'
import { createQueriesWithDeadline } from './queries/with-deadline.js'
import { parseDatabaseUrl, postgresOptions } from '../postgres/database-url.js'
import { readSchema } from './queries/queries.js'
import type { Queries } from './queries/queries.js'
import { CommandError, isConnectionProblem } from './errors.js'
import type { DatabaseOptions } from './options.js'
import { findPrimary } from '../postgres/find-primary.js'
import { schemaMismatch } from '../postgres/schema-match.js'

/** For the way to the server and a small query. */
const FIRST_ANSWER_MS = 10_000

/** DATABASE_URL, else the embedded server of the state directory, which must run already. */
export async function databaseUrlOf({ stateDir }: DatabaseOptions): Promise<string> {
  const given = process.env['DATABASE_URL']
  if (given) {
    parseDatabaseUrl(given)
    return given
  }
  const { clusterUrl } = await import('../postgres/embedded/cluster.js')
  const url = await clusterUrl({ stateDir })
  if (url === undefined) {
    throw new CommandError(
      `no database: DATABASE_URL is not set, and no embedded server runs in ${stateDir}`,
      'start everything with `mooring up`, or the server alone with `mooring db up`',
    )
  }
  return url
}

/**
 * A connection for one command. Rejects where none of several hosts is a primary that answers. A
 * single host is not contacted before the first query.
 */
export async function connect(url: string, statementTimeoutMs = 0): Promise<Sql> {
  const parsed = postgresOptions(await findPrimary(parseDatabaseUrl(url)))
  return postgres({
    ...parsed,
    max: 1,
    // all types used are built in; asking for others costs a round trip at every start
    fetch_types: false,
    types: ARRAY_TYPES,
    // a pooler in front may hand the next statement to another session
    prepare: false,
    onnotice: () => {},
    connection: {
      ...parsed.connection,
      application_name: 'mooring cli',
      statement_timeout: statementTimeoutMs,
    },
  })
}

/** Runs a command's work on the database, which must hold the schema. */
export async function withDb<T>(
  options: DatabaseOptions,
  work: (db: Queries) => Promise<T>,
): Promise<T> {
  return withDbAt(await databaseUrlOf(options), work)
}

export async function withDbAt<T>(url: string, work: (db: Queries) => Promise<T>): Promise<T> {
  const asked = createQueriesWithDeadline((timeoutMs) => connect(url, timeoutMs))
  try {
    await asked.ask(FIRST_ANSWER_MS, requireSchema)
    return await work(asked.db)
  } finally {
    await asked.close()
  }
}

async function requireSchema(sql: Sql): Promise<void> {
  const { database, version } = await readSchema(sql)
  if (version === null)
    throw new CommandError(
      `the schema mooring is not installed in ${database}; run \`mooring migrate\``,
    )
  const { committedMigrations } = await import('../postgres/migrate/committed-migrations.js')
  const known = committedMigrations().length
  const mismatch = schemaMismatch(version, known)
  if (mismatch !== null) {
    throw new CommandError(
      `the schema in ${database} ${mismatch.problem}: ` +
        `it is at ${version}, the program knows ${known}`,
      mismatch.remedy,
    )
  }
}

/** Long-running commands wait for an absent database, but not for one with another schema. */
export async function requireSchemaIfReachable(url: string): Promise<void> {
  // with a deadline, as the agent's own calls: no server or proxy can hold this up
  const connection = createConnection({ databaseUrl: url, applicationName: 'mooring: schema' })
  try {
    await connection.run(FIRST_ANSWER_MS, requireSchema)
  } catch (error) {
    if (!isConnectionProblem(error)) throw error
  } finally {
    connection.close()
  }
}
