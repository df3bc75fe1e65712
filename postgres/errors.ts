/** What an error of the database, or of the way to it, calls for. SQLSTATE or errno decide. */

/**
 * retry        the connection or the moment was bad: try again soon, for ever
 * unfit        no schema, rights, database, valid password or free name: report it, try seldom
 * session_over another session holds the name, or the node was forgotten: stop all, register again
 * name_taken   a live agent has this name: wait until it is free
 * refused      the database will never accept the description of this agent
 * bad_value    this row will never be accepted; the next one may be
 */
export type ErrorKind = 'retry' | 'unfit' | 'session_over' | 'name_taken' | 'refused' | 'bad_value'

/** The statement would write, and the server is a standby or was made read only. */
export const READ_ONLY_SERVER = '25006'

export interface DatabaseError extends Error {
  code?: string
  detail?: string
  hint?: string
}

const KIND_BY_CODE: Readonly<Record<string, ErrorKind>> = {
  MR001: 'session_over',
  MR003: 'session_over',
  MR002: 'name_taken',
  MR007: 'refused',
  MR009: 'unfit', // the name belongs to another role until an operator binds it again
  '3F000': 'unfit', // no schema mooring
  '42P01': 'unfit', // no such table
  '42703': 'unfit', // no such column
  '42883': 'unfit', // no such function
  '42501': 'unfit', // no right to it
  '28000': 'unfit', // pg_hba.conf says no
  '28P01': 'unfit', // wrong password
  '3D000': 'unfit', // no such database
}

export function errorKind(error: unknown): ErrorKind {
  const code = errorCode(error)
  if (code === undefined) return 'retry'
  // 22 data exception, 23 constraint: NUL, lone surrogates, numbers out of range, unknown states
  return KIND_BY_CODE[code] ?? (/^2[23]/.test(code) ? 'bad_value' : 'retry')
}

export function errorCode(error: unknown): string | undefined {
  const code: unknown = (firstOf(error) as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/**
 * The part of an error for a log line. Query and parameters are left out: they may hold secrets.
 */
export function describeError(error: unknown): { code?: string; message: string; hint?: string } {
  const first = firstOf(error)
  if (!(first instanceof Error)) return { message: String(first) }
  const { code, hint, message } = first as DatabaseError
  return {
    ...(code === undefined ? {} : { code }),
    message,
    ...(hint === undefined ? {} : { hint }),
  }
}

/** Milliseconds until a name in use may be free. */
export function freeInMs(error: unknown): number | null {
  try {
    const value: unknown = (
      JSON.parse((error as DatabaseError).detail ?? '') as { free_in_ms?: unknown }
    ).free_in_ms
    return typeof value === 'number' && Number.isFinite(value) ? Math.max(0, value) : null
  } catch {
    return null
  }
}

/**
 * A connection that fails on several addresses rejects with an AggregateError without a message.
 */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error
}
