import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { migrationsFolder } from './committed-migrations.js'
import { parseDatabaseUrl } from '../database-url.js'

export interface MigrateOptions {
  databaseUrl: string
  /** What is being done, one sentence at a time. Never holds the password. */
  log?: (message: string) => void
  /** For how long a migration that waits for somebody's lock is tried again. Default 10 minutes. */
  retryForMs?: number
  /** Another folder than the package's own `migrations`; for tests of migrations to come. */
  folder?: string
  signal?: AbortSignal
}

export interface MigrateResult {
  /** Files of migrations/committed that this call ran, in order; empty: the database was up to date. */
  applied: string[]
  /** The newest migration the database now has. */
  version: string
  /**
   * Whether psql finds `deployment` without its schema: `set` by this call, `present` before, or `left` alone because
   * another table of that name is visible or we may not alter the database; then `searchPathLine` is the line to run.
   */
  searchPath: 'set' | 'present' | 'left'
  searchPathLine: string | null
  /** What could not be done for the group roles (set_up_roles), with the way out; empty: all is done. */
  roleProblems: string[]
}

/** Why the database was not migrated, with the way out. `code` is a SQLSTATE or errno where there is one. */
export class MigrateError extends Error {
  override readonly name = 'MigrateError'
  readonly code: string | undefined
  readonly detail: string | undefined
  readonly hint: string | undefined
  // of a server that does not answer
  readonly address: string | undefined
  readonly hostname: string | undefined
  readonly port: number | undefined
  constructor(message: string, more: Partial<Omit<MigrateFailure, 'kind' | 'message'>> = {}) {
    super(message)
    this.code = more.code
    this.detail = more.detail
    this.hint = more.hint
    this.address = more.address
    this.hostname = more.hostname
    this.port = more.port
  }
}

/**
 * Brings the database to the schema of this program: graphile-worker's schema, then our committed
 * migrations. Harmless to repeat, safe when many hosts do it at once, and it blocks nobody: where it
 * would have to wait for a lock it gives up after 500 ms and tries again.
 *
 * Runs in a process of its own, because graphile-migrate ends its process when a connection breaks.
 */
export async function migrate({
  databaseUrl,
  log = () => {},
  retryForMs = RETRY_FOR_MS,
  folder,
  signal,
}: MigrateOptions): Promise<MigrateResult> {
  parseDatabaseUrl(databaseUrl)
  signal?.throwIfAborted()
  const file = fileURLToPath(
    new URL(
      import.meta.url.endsWith('.ts') ? './migrate-process.ts' : './migrate-process.js',
      import.meta.url,
    ),
  )
  const child = fork(file, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  return new Promise((resolve, reject) => {
    let answer: MigrateMessage | undefined
    let stderr = ''
    const abort = () => child.kill('SIGTERM')
    signal?.addEventListener('abort', abort, { once: true })
    child.stderr?.on(
      'data',
      (chunk: Buffer) => (stderr = `${stderr}${chunk.toString('utf8')}`.slice(-2_000)),
    )
    child.on('message', (message: MigrateMessage) => {
      if (message.kind === 'log') log(message.message)
      else answer = message
    })
    child.once('error', reject)
    child.once('close', () => {
      signal?.removeEventListener('abort', abort)
      if (answer?.kind === 'done') resolve(answer.result)
      else if (answer?.kind === 'failed') reject(new MigrateError(answer.message, answer))
      else if (signal?.aborted) reject(signal.reason)
      else
        reject(
          new MigrateError('the migration broke off; what it had not committed is rolled back', {
            detail: stderr.trim() || undefined,
            hint: 'run it again',
          }),
        )
    })
    const order: MigrateOrder = { databaseUrl, retryForMs, folder: folder ?? migrationsFolder() } // not in argv or env: those can be read by others
    child.send(order)
  })
}

export interface MigrateOrder {
  databaseUrl: string
  retryForMs: number
  folder: string
}

export type MigrateMessage =
  { kind: 'log'; message: string } | { kind: 'done'; result: MigrateResult } | MigrateFailure

export interface MigrateFailure {
  kind: 'failed'
  message: string
  code?: string | undefined
  detail?: string | undefined
  hint?: string | undefined
  address?: string | undefined
  hostname?: string | undefined
  port?: number | undefined
}

const RETRY_FOR_MS = 10 * 60_000
