import pg from 'pg'
import { graphileWorker } from './graphile-worker.js'

/**
 * The schema of our jobs. `graphile_worker`, the library's default, belongs to the application that
 * shares the database, with whatever version of the library that has.
 */
export const JOBS_SCHEMA = 'mooring_jobs'

/** Makes that schema, or brings it to the version of the library. Repeating it is harmless. */
export async function installJobsSchema(config: pg.ClientConfig): Promise<void> {
  const { Logger, runMigrations } = graphileWorker()
  const pgPool = new pg.Pool({ ...config, max: 1 })
  pgPool.on('error', () => {}) // the step rejects with it
  pgPool.on('connect', silenceMigrationNotice)
  try {
    await runMigrations({
      pgPool,
      preset: { worker: { schema: JOBS_SCHEMA } },
      logger: new Logger(() => () => {}),
    })
  } finally {
    await pgPool.end()
  }
}

/**
 * The library tells all workers of the database that their schema was migrated, whatever schema it
 * was. Workers of an application that have an older library end then. Ours need no notice: they
 * refuse another version at their start.
 */
function silenceMigrationNotice(client: { query: unknown }): void {
  const query = (client.query as (...args: unknown[]) => unknown).bind(client)
  Object.assign(client, {
    query: (...args: unknown[]) =>
      args[0] === 'select pg_notify($1, $2)' && (args[1] as unknown[])[0] === 'worker:migrate'
        ? query('select')
        : query(...args),
  })
}
