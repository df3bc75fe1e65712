import { migrationsFolder } from './committed-migrations.js'
import { MigrateError, type MigrateFailure, type MigrateResult } from './result.js'
import { runMigrations } from './steps.js'

export interface MigrateOptions {
  databaseUrl: string
  /** Gets one sentence for each step. Never holds the password. */
  log?: (message: string) => void
  /** How long a migration that needs a held lock is tried again. Default 10 minutes. */
  retryForMs?: number
  /**
   * Default: the folder `migrations` of the package. Tests of later migrations give another one.
   */
  folder?: string
  signal?: AbortSignal
}

/**
 * Brings the database to the schema of this program: the schema of its jobs, then the committed
 * migrations. Repeating it is harmless, and many hosts may do it at once. It blocks no other
 * session: it waits 500 ms for a lock, gives up, and tries again.
 * Rejects with MigrateError, an error of the server, or the reason of the signal.
 */
export async function migrate({
  databaseUrl,
  log = () => {},
  retryForMs = RETRY_FOR_MS,
  folder = migrationsFolder(),
  signal,
}: MigrateOptions): Promise<MigrateResult> {
  signal?.throwIfAborted()
  try {
    return await runMigrations({ databaseUrl, retryForMs, folder }, log, signal)
  } catch (thrown) {
    if (signal?.aborted) throw signal.reason
    // of several addresses of one host the first error counts, as in the CLI
    const error = (thrown instanceof AggregateError ? thrown.errors[0] : thrown) as Error
    if (error instanceof MigrateError || error.name === 'DatabaseUrlError') throw error
    throw new MigrateError(error.message, error as MigrateFailure)
  }
}

const RETRY_FOR_MS = 10 * 60_000
