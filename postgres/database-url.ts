import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type { ClientConfig } from 'pg'
import type { Options } from 'postgres'
import { storedPassword } from './password-file.js'
import { SESSION_SETTINGS, settingOptions } from './session-settings.js'

/**
 * DATABASE_URL, read once. Two drivers connect with it and read the same text differently: postgres
 * (verbs) and pg (graphile-worker, migrations, pg-listen). So both configurations are made
 * from this, and nothing else in Mooring hands the text to a driver.
 *
 *   postgres://user:password@host[:port][,host[:port]...]/database[?parameter=value&...]
 *   postgres://user@/database?host=/var/run/postgresql          (Unix socket)
 *
 * Several hosts are one database behind a failover; only the primary is used. find-primary.ts or
 * connection.ts finds it. The drivers are not asked to: `pg` cannot, and `postgres` asks for ever,
 * silently, while no host answers.
 */
export interface DatabaseUrl {
  hosts: readonly HostAndPort[]
  user: string
  /** Undefined: password-file.ts is asked, for one host. */
  password: string | undefined
  database: string
  sslmode: (typeof SSL_MODES)[number]
  parameters: Readonly<Partial<Record<Parameter, string>>>
  /** The address without its password, for logs and errors. */
  redacted: string
}

export interface HostAndPort {
  /** A name, an address, or the folder of the server's Unix socket. */
  host: string
  port: number
}

/**
 * Names the part that is wrong. Never holds the text, because any part may contain the password.
 */
export class DatabaseUrlError extends Error {
  override readonly name = 'DatabaseUrlError'
  readonly part: string
  readonly exitCode = 2 // bad usage
  constructor(part: string, problem: string) {
    super(`DATABASE_URL: ${part}: ${problem}`)
    this.part = part
  }
}

const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full'] as const
const PARAMETERS = [
  'host',
  'port',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'target_session_attrs',
  'application_name',
  'connect_timeout',
  'options',
] as const
type Parameter = (typeof PARAMETERS)[number]
const CONNECT_TIMEOUT_S = 10
const DEFAULT_PORT = 5432

export function parseDatabaseUrl(text: string | undefined): DatabaseUrl {
  if (!text) throw new DatabaseUrlError('value', 'is not set')
  const scheme = /^([^:/?#]*):\/\//.exec(text)
  if (!scheme)
    throw new DatabaseUrlError('scheme', 'is missing; the address starts with postgres://')
  if (scheme[1] !== 'postgres' && scheme[1] !== 'postgresql')
    throw new DatabaseUrlError('scheme', 'must be postgres:// or postgresql://')
  if (/[\s\0]/.test(text))
    throw new DatabaseUrlError('value', 'contains white space; write %20 where a space is meant')
  const [, authority = '', path = '', query = ''] =
    /^([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?/.exec(text.slice(scheme[0].length)) ?? []
  if (text.includes('#') || (text.includes('@') && !authority.includes('@')) || /@.*@/.test(text)) {
    throw new DatabaseUrlError(
      'user and password',
      'hold a character that must be percent-encoded (@ is %40, / is %2F, ? is %3F, # is %23)',
    )
  }
  const at = authority.indexOf('@')
  const [rawUser = '', rawPassword] = split(authority.slice(0, Math.max(at, 0)), ':')
  const parameters = parseParameters(query)
  const hosts = parseHosts(authority.slice(at + 1), parameters)
  const user = decoded('user', rawUser) || userInfo().username
  const password = rawPassword === undefined ? undefined : decoded('password', rawPassword)
  const database = decoded('database', path)
  if (!database) throw new DatabaseUrlError('database', 'is missing; the address ends with /name')
  if (path.includes('/'))
    throw new DatabaseUrlError('database', 'must be one name; a slash in it is written %2F')
  const sslmode = parseSslMode(parameters)
  // for an address without a name one of the drivers would check the name "localhost"
  if (sslmode === 'verify-full' && hosts.some(({ host }) => isIP(host) > 0)) {
    throw new DatabaseUrlError(
      'sslmode',
      'verify-full needs the name in the certificate of the server, not an address; ' +
        'give the server a name in the DNS or in /etc/hosts',
    )
  }
  if (sslmode !== 'disable' && hosts.some(({ host }) => host.startsWith('/')))
    throw new DatabaseUrlError('sslmode', 'a Unix socket has no TLS; leave sslmode out')
  if (hosts.length > 1 && !parameters.target_session_attrs)
    parameters.target_session_attrs = 'primary'
  const secret = password === undefined ? '' : ':***'
  const place = `${hosts.map(shown).join(',')}/${encodeURIComponent(database)}`
  const redacted = `postgres://${encodeURIComponent(user)}${secret}@${place}`
  return { hosts, user, password, database, sslmode, parameters, redacted }
}

/**
 * Options of `postgres` (porsager), for one host. The caller adds max, names, types and the like.
 */
export function postgresOptions(url: DatabaseUrl): Options<Record<string, never>> {
  const { application_name, options, connect_timeout, target_session_attrs } = url.parameters
  return {
    ...onlyHost(url),
    user: url.user,
    ...passwordOf(url),
    database: url.database,
    ssl: tlsOptions(url) ?? false,
    connect_timeout: Number(connect_timeout ?? CONNECT_TIMEOUT_S),
    ...(target_session_attrs ? { target_session_attrs: target_session_attrs as 'primary' } : {}),
    // the driver's types know some of these settings as numbers; the protocol knows only texts
    connection: {
      ...(SESSION_SETTINGS as object),
      application_name: application_name ?? 'mooring',
      ...(options ? { options } : {}),
    },
  }
}

/** Configuration of `pg`, for one host. */
export function pgConfig(
  url: DatabaseUrl,
  more: Pick<ClientConfig, 'application_name' | 'options'> = {},
): ClientConfig {
  const { host, port } = onlyHost(url)
  const { application_name, options, connect_timeout } = url.parameters
  const joined = [settingOptions(SESSION_SETTINGS), options, more.options].filter(Boolean).join(' ')
  return {
    host,
    port,
    user: url.user,
    ...passwordOf(url),
    database: url.database,
    ssl: tlsOptions(url) ?? false,
    connectionTimeoutMillis: 1000 * Number(connect_timeout ?? CONNECT_TIMEOUT_S),
    application_name: more.application_name ?? application_name ?? 'mooring',
    keepAlive: true,
    options: joined,
  }
}

export const withHost = (url: DatabaseUrl, host: HostAndPort): DatabaseUrl => ({
  ...url,
  hosts: [host],
})

/** One search for both drivers: `postgres` knows no ~/.pgpass. */
function passwordOf(url: DatabaseUrl): { password?: string } {
  const { user, database } = url
  const password = url.password ?? storedPassword({ ...onlyHost(url), database, user })
  return password === undefined ? {} : { password }
}

/** Of several hosts find-primary.ts has chosen one before. */
function onlyHost(url: DatabaseUrl): HostAndPort {
  const [first, second] = url.hosts
  if (!first || second)
    throw new DatabaseUrlError(
      'host',
      'several hosts are not possible here; name the primary alone',
    )
  return first
}

function tlsOptions(url: DatabaseUrl): ConnectionOptions | undefined {
  const { sslrootcert, sslcert, sslkey } = url.parameters
  if (url.sslmode === 'disable') return undefined
  const files = {
    ...(sslrootcert ? { ca: fileOf('sslrootcert', sslrootcert) } : {}),
    ...(sslcert ? { cert: fileOf('sslcert', sslcert) } : {}),
    ...(sslkey ? { key: fileOf('sslkey', sslkey) } : {}),
  }
  // as in libpq: require encrypts and checks nothing, unless sslrootcert names an authority
  if (url.sslmode === 'verify-full') return files
  if (sslrootcert) return { ...files, checkServerIdentity: () => undefined }
  return { ...files, rejectUnauthorized: false }
}

function fileOf(parameter: string, path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new DatabaseUrlError(
      parameter,
      `the file cannot be read (${(error as NodeJS.ErrnoException).code})`,
    )
  }
}

function parseParameters(query: string): Partial<Record<Parameter, string>> {
  const parameters: Partial<Record<Parameter, string>> = {}
  for (const pair of query.split('&').filter(Boolean)) {
    const [rawName = '', rawValue = ''] = split(pair, '=')
    const name = decoded('parameter', rawName) as Parameter
    if (!PARAMETERS.includes(name)) {
      const shownName = /^[a-z_]{1,40}$/i.test(name) ? `"${name}"` : 'one of the names'
      throw new DatabaseUrlError(
        'parameter',
        `${shownName} is not known; known are ${PARAMETERS.join(', ')}`,
      )
    }
    if (parameters[name] !== undefined) throw new DatabaseUrlError(name, 'is given twice')
    parameters[name] = decoded(name, rawValue)
  }
  if (
    parameters.connect_timeout !== undefined &&
    !/^[1-9]\d{0,4}$/.test(parameters.connect_timeout)
  ) {
    throw new DatabaseUrlError('connect_timeout', 'must be a whole number of seconds')
  }
  checkSessionAttributes(parameters)
  return parameters
}

function checkSessionAttributes(parameters: Partial<Record<Parameter, string>>): void {
  const wish = parameters.target_session_attrs
  if (wish === undefined) return
  // `postgres` accepts a standby as read-write; the primary is meant
  if (wish === 'read-write' || wish === 'primary') parameters.target_session_attrs = 'primary'
  else if (wish === 'any') delete parameters.target_session_attrs
  else
    throw new DatabaseUrlError(
      'target_session_attrs',
      'must be primary, read-write or any: Mooring writes',
    )
}

function parseSslMode(parameters: Partial<Record<Parameter, string>>): DatabaseUrl['sslmode'] {
  const { sslmode, sslrootcert, sslcert, sslkey } = parameters
  if (sslmode === undefined && (sslrootcert || sslcert || sslkey))
    throw new DatabaseUrlError('sslmode', 'is missing beside sslrootcert, sslcert or sslkey')
  if (sslmode === undefined) return 'disable'
  if (sslmode === 'prefer' || sslmode === 'allow') {
    throw new DatabaseUrlError(
      'sslmode',
      `${sslmode} is not supported, because it leaves encryption to chance; ` +
        `use one of ${SSL_MODES.join(', ')}`,
    )
  }
  const mode = SSL_MODES.find((known) => known === sslmode)
  if (!mode) throw new DatabaseUrlError('sslmode', `must be one of ${SSL_MODES.join(', ')}`)
  if (mode === 'verify-ca' && !sslrootcert)
    throw new DatabaseUrlError('sslmode', 'verify-ca needs sslrootcert, the file of the authority')
  return mode
}

function parseHosts(text: string, parameters: Partial<Record<Parameter, string>>): HostAndPort[] {
  const { host: given, port: givenPort } = parameters
  if (given !== undefined && text !== '')
    throw new DatabaseUrlError('host', 'is given twice, in the address and as a parameter')
  if (givenPort !== undefined && given === undefined)
    throw new DatabaseUrlError('port', 'as a parameter needs host as a parameter')
  const hosts =
    given === undefined
      ? text.split(',').map(parseHost)
      : [{ host: given, port: parsePort(givenPort) }]
  if (hosts.length > 1 && hosts.some(({ host }) => host.startsWith('/')))
    throw new DatabaseUrlError('host', 'a Unix socket cannot be one of several hosts')
  return hosts
}

function parseHost(text: string): HostAndPort {
  const [, bracketed, plain = '', port] =
    /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text) ?? []
  if (bracketed === undefined && plain === '' && text.includes(':'))
    throw new DatabaseUrlError('host', 'cannot be read; an IPv6 address stands in [brackets]')
  const host = bracketed ?? decoded('host', plain)
  if (!host)
    throw new DatabaseUrlError(
      'host',
      'is missing; it stands between // (or @) and the database name',
    )
  if (
    !host.startsWith('/') &&
    !bracketed &&
    !/^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?$/.test(host)
  ) {
    throw new DatabaseUrlError(
      'host',
      'is no host name (a password with / ? # or @ in it must be percent-encoded)',
    )
  }
  return { host, port: parsePort(port) }
}

function parsePort(text: string | undefined): number {
  if (text === undefined || text === '') return DEFAULT_PORT
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) {
    throw new DatabaseUrlError(
      'port',
      'must be a number from 1 to 65535 (a password with / ? # or @ in it must be percent-encoded)',
    )
  }
  return port
}

function decoded(part: string, text: string): string {
  try {
    const value = decodeURIComponent(text)
    if (value.includes('\0')) throw new URIError()
    return value
  } catch {
    throw new DatabaseUrlError(
      part,
      'holds a % that is not a valid percent-encoding (% itself is %25)',
    )
  }
}

function split(text: string, at: string): [string, string | undefined] {
  const index = text.indexOf(at)
  return index < 0 ? [text, undefined] : [text.slice(0, index), text.slice(index + 1)]
}

const shown = ({ host, port }: HostAndPort): string =>
  host.includes(':')
    ? `[${host}]:${port}`
    : `${host.startsWith('/') ? encodeURIComponent(host) : host}:${port}`
