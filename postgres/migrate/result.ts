/** What a migration is asked for, and how it ends. */
export interface MigrateOrder {
  databaseUrl: string
  retryForMs: number
  folder: string
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

/** Of an error of the server or the network. The rest of it may hold secrets. */
export interface MigrateFailure {
  code?: string | undefined
  detail?: string | undefined
  hint?: string | undefined
  address?: string | undefined
  hostname?: string | undefined
  port?: number | undefined
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
  constructor(message: string, more: MigrateFailure = {}) {
    super(message)
    this.code = more.code
    this.detail = more.detail
    this.hint = more.hint
    this.address = more.address
    this.hostname = more.hostname
    this.port = more.port
  }
}
