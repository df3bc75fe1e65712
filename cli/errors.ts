/**
 * Errors with the next thing to type.
 *
 * Exit codes: 0 done, 1 failed, 2 bad usage. A stack trace is shown with --debug only. The password
 * of a database URL is never shown: every text passes through `withoutSecrets`.
 */
import { DatabaseUrlError } from '../postgres/database-url.js'

export const EXIT_DONE = 0
export const EXIT_FAILED = 1
export const EXIT_USAGE = 2

/** The command could not do its work. `hint` names the way out. */
export class CommandError extends Error {
  readonly exitCode: number = EXIT_FAILED
  readonly hint: string | undefined

  constructor(message: string, hint?: string) {
    super(message)
    this.name = 'CommandError'
    this.hint = hint
  }
}

/**
 * The command line, or a file named on it, is wrong. Trying again without a change is pointless.
 */
export class UsageError extends CommandError {
  override readonly exitCode = EXIT_USAGE
}

/** The command line names what does not exist. The verbs raise the same code. */
export class UnknownNameError extends CommandError {
  readonly code = 'MR003'
}

export interface Problem {
  message: string
  code?: string
  detail?: string
  hint?: string
  exitCode: number
}

interface Advice {
  message?: (error: ServerError) => string
  hint?: (error: ServerError) => string | undefined
}

interface ServerError extends Error {
  code?: string
  detail?: string
  hint?: string
  address?: string
  port?: number
  hostname?: string
}

/** A server without TLS closes the connection of a client that asks for it. */
const BROKEN: Advice = {
  message: () => 'the database server broke the connection',
  hint: () =>
    /[?&]sslmode=(?!disable)/.test(process.env['DATABASE_URL'] ?? '')
      ? 'try again in a moment; if it stays so, the server may not speak TLS, ' +
        'which sslmode in DATABASE_URL asks for'
      : 'try again in a moment',
}

/** The command has tried it several times: queries/with-deadline.ts. */
const LOST: Advice = {
  hint: () =>
    'another session changes the same rows, again and again; nothing was changed: try again',
}

/** Message and hint by SQLSTATE, errno or driver code. Texts are never matched. */
const ADVICE: Record<string, Advice> = {
  '28P01': { hint: () => 'check user and password in DATABASE_URL' },
  '08P01': {
    hint: () => 'DATABASE_URL leads to a connection pooler: give the address of the server itself',
  },
  '28000': {
    hint: () =>
      'the server does not admit this user from here: ' +
      'check user, host and sslmode in DATABASE_URL, and pg_hba.conf',
  },
  '3D000': { hint: () => 'check the database name in DATABASE_URL, or create the database' },
  '3F000': { hint: () => 'install the schema: run `mooring migrate`' },
  '42P01': { hint: () => 'the schema does not match this program: run `mooring migrate`' },
  '42703': { hint: () => 'the schema does not match this program: run `mooring migrate`' },
  '42883': { hint: () => 'the schema does not match this program: run `mooring migrate`' },
  '42501': {
    hint: () => 'connect as a role that has this right, or ask the owner of the schema mooring',
  },
  '25006': {
    message: () => 'this server is read only (a standby)',
    hint: () => 'use the primary: name it in DATABASE_URL',
  },
  '53300': {
    hint: () => 'the server has no connection left: close some, or raise max_connections',
  },
  '40P01': LOST,
  '40001': LOST,
  '55P03': {
    hint: () =>
      'another session holds a lock: `mooring status` shows the holder of the placement lock; ' +
      'try again',
  },
  '57P01': {
    message: () => 'the server closed the connection (it stops or restarts)',
    hint: () => 'try again in a moment',
  },
  '57P03': {
    message: () => 'the server is starting up or shutting down',
    hint: () => 'try again in a moment',
  },
  MR001: { hint: () => 'a newer agent holds this name' },
  MR002: {
    message: (error) => `${error.message}${freeIn(error.detail)}`,
    hint: () => 'stop the other agent, or choose another --name',
  },
  MR003: { hint: () => '`mooring status` lists the nodes' },
  MR006: { hint: () => '`mooring explain <deployment>` gives the reason for each node' },
  MR009: { hint: () => 'connect as the role the node is bound to' },
  MR004: { hint: () => '`mooring status` shows the holder of the placement lock' },
  // with several hosts the message already names each of them
  ECONNREFUSED: {
    message: (error) =>
      error.address === undefined && error.hostname === undefined
        ? error.message
        : `no database server answers at ${addressOf(error)}`,
    hint: serverHint,
  },
  ENOTFOUND: {
    message: (error) =>
      `the host ${error.hostname ?? ''} of the database is unknown`.replace('  ', ' '),
    hint: () => 'check the host in DATABASE_URL',
  },
  EAI_AGAIN: {
    message: (error) =>
      `the host ${error.hostname ?? ''} of the database could not be looked up`.replace('  ', ' '),
    hint: () => 'check the host in DATABASE_URL, and the network',
  },
  ETIMEDOUT: {
    message: (error) => `no answer from the database server at ${addressOf(error)}`,
    hint: serverHint,
  },
  CONNECT_TIMEOUT: {
    message: (error) => `no answer from the database server at ${addressOf(error)}`,
    hint: serverHint,
  },
  CALL_DEADLINE: {
    hint: () =>
      'the server is stopped, cut off or overloaded: see that it runs, and try again. ' +
      'The order may have been carried out: check before you repeat it',
  },
  ECONNRESET: BROKEN,
  ERR_TLS_CERT_ALTNAME_INVALID: {
    message: (error) =>
      `the certificate of the database server is for another name: ${error.message}`,
    hint: () => 'use the name in the certificate as the host in DATABASE_URL',
  },
  SELF_SIGNED_CERT_IN_CHAIN: { hint: authorityHint },
  DEPTH_ZERO_SELF_SIGNED_CERT: { hint: authorityHint },
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: { hint: authorityHint },
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: { hint: authorityHint },
  CONNECTION_CLOSED: BROKEN,
}

function addressOf(error: ServerError): string {
  const host = error.hostname ?? error.address ?? 'the address in DATABASE_URL'
  return error.port === undefined ? host : `${host}:${error.port}`
}

function authorityHint(): string {
  return (
    'the authority that signed the certificate of the server is unknown: ' +
    'name its file with sslrootcert in DATABASE_URL'
  )
}

function serverHint(): string {
  return process.env['DATABASE_URL']
    ? 'check host and port in DATABASE_URL, and that the server runs'
    : 'start the embedded server: `mooring db up`, or everything: `mooring up`'
}

function freeIn(detail: string | undefined): string {
  try {
    const ms: unknown = (JSON.parse(detail ?? '') as { free_in_ms?: unknown }).free_in_ms
    return typeof ms === 'number'
      ? `; the name is free in ${(ms / 1000).toFixed(1)} s at the earliest`
      : ''
  } catch {
    return ''
  }
}

/** MR002 has it in the message. For a failed check the server shows the whole row, env included. */
const WITHOUT_DETAIL = new Set<string | undefined>(['MR002', '23514', '23502'])

/** Connection failures to several addresses are one AggregateError: the first one is reported. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error
}

export function problemOf(thrown: unknown): Problem {
  const error = firstOf(thrown)
  if (!(error instanceof Error))
    return { message: withoutSecrets(String(error)), exitCode: EXIT_FAILED }
  const { code, detail, hint } = error as ServerError
  const advice = code === undefined ? undefined : ADVICE[code]
  const foundHint = hint ?? advice?.hint?.(error)
  const exitCode: unknown =
    error instanceof DatabaseUrlError ? EXIT_USAGE : (error as { exitCode?: unknown }).exitCode
  return {
    message: withoutSecrets(advice?.message?.(error) ?? error.message),
    ...(code === undefined ? {} : { code }),
    ...(detail === undefined || WITHOUT_DETAIL.has(code) ? {} : { detail: withoutSecrets(detail) }),
    ...(foundHint === undefined ? {} : { hint: withoutSecrets(foundHint) }),
    exitCode: typeof exitCode === 'number' ? exitCode : EXIT_FAILED,
  }
}

/** True when a later try may help: the server is absent, full (53) or in trouble (58). */
export function isConnectionProblem(thrown: unknown): boolean {
  const error = firstOf(thrown)
  const code = error instanceof Error ? (error as ServerError).code : undefined
  return (
    code !== undefined &&
    (/^(08|53|57P|58)/.test(code) ||
      /^(E[A-Z_]+|CONNECT(ION)?_[A-Z]+|CALL_DEADLINE|CLIENT_DROPPED)$/.test(code))
  )
}

export function renderProblem(problem: Problem, json: boolean): string {
  const { exitCode: _, ...error } = problem
  if (json) return `${JSON.stringify({ error })}\n`
  const lines = [`error: ${problem.message}`]
  if (problem.detail) lines.push(`detail: ${problem.detail}`)
  if (problem.hint) lines.push(`hint: ${problem.hint}`)
  return `${lines.join('\n')}\n`
}

/** Blanks the password of every URL in a text, and every occurrence of DATABASE_URL's password. */
export function withoutSecrets(
  text: string,
  url: string | undefined = process.env['DATABASE_URL'],
): string {
  let clean = text.replace(/(\w+:\/\/[^\s:/@]*):[^\s/]*@/g, '$1:***@')
  for (const secret of passwordsOf(url)) clean = clean.replaceAll(secret, '***')
  return clean
}

function passwordsOf(url: string | undefined): string[] {
  const raw =
    /^\w+:\/\/[^:/@]*:([^/]*)@/.exec(url ?? '')?.[1] ?? /[?&]password=([^&]*)/.exec(url ?? '')?.[1]
  // a password of one or two characters would blank half of every message
  if (raw === undefined || raw.length < 3) return []
  try {
    return [raw, decodeURIComponent(raw)]
  } catch {
    return [raw]
  }
}
