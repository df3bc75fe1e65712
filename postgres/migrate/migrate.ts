import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { migrationsFolder } from './committed-migrations.js'
import { parseDatabaseUrl } from '../database-url.js'

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

export interface MigrateResult {
  /** The files of migrations/committed that this call ran, in order. */
  applied: string[]
  /** The newest migration of the database. */
  version: string
  /**
   * Whether psql finds `deployment` without its schema: `set` by this call, or `present` before. It
   * is `left` alone where another table of that name is visible, or the role may not alter the
   * database; then searchPathLine is the statement to run.
   */
  searchPath: 'set' | 'present' | 'left'
  searchPathLine: string | null
  /** What mooring.set_up_roles() could not do, each with the way out. */
  roleProblems: string[]
}

/**
 * Why the database was not migrated, with the way out. `code` is a SQLSTATE, an errno or our own.
 */
export class MigrateError extends Error {
  override readonly name = 'MigrateError'
  readonly code: string | undefined
  readonly detail: string | undefined
  readonly hint: string | undefined
  // these three name a server that does not answer
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
 * Brings the database to the schema of this program: graphile-worker's schema, then the committed
 * migrations. Repeating it is harmless, and many hosts may do it at once. It blocks no other
 * session: it waits 500 ms for a lock, gives up, and tries again.
 *
 * It runs in its own process, because graphile-migrate ends its process when a connection breaks.
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
          new MigrateError('the migration broke off; uncommitted changes are rolled back', {
            detail: stderr.trim() || undefined,
            hint: 'run it again',
          }),
        )
    })
    // not in argv or env, because other users can read those
    const order: MigrateOrder = { databaseUrl, retryForMs, folder: folder ?? migrationsFolder() }
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
