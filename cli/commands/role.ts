import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { Command } from 'commander'
import { NAME_PATTERN } from '../../syntax/name.js'
import { UsageError } from '../errors.js'
import { jsonOption } from '../options.js'
import type { JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

/**
 * Prints the SQL that makes a login of a group role. It runs nothing and needs no database, because
 * a DBA wants to read the SQL first. A password is read from a file, or generated into one, and
 * never printed: the SQL carries its SCRAM verifier, so no server log or shell history learns it.
 */
const KINDS = {
  agent: 'mooring_agent',
  operator: 'mooring_operator',
  viewer: 'mooring_viewer',
  workload: 'mooring_workload',
} as const
type Kind = keyof typeof KINDS

interface CreateOptions extends JsonOptions {
  node?: string
  name?: string
  passwordFile?: string
}

export function addRole(program: Command): void {
  program
    .command('role')
    .description('logins of agents, operators, viewers and workloads: print the SQL that makes one')
    .command('create')
    .description('print the SQL that makes a login; read it, then run it: ... | psql')
    .argument('<kind>', Object.keys(KINDS).join(', '))
    .option('--node <node>', 'for an agent: the node that belongs to it')
    .option('--name <role>', 'name of the login (default: mooring_<node> for an agent)')
    .option(
      '--password-file <file>',
      'file of the password; generated, readable by you alone, if it does not exist',
    )
    .addOption(jsonOption('print {role, node, sql} as JSON'))
    .action(create)
}

function create(kind: string, options: CreateOptions): void {
  if (!isKind(kind))
    throw new UsageError(
      `there is no kind of role ${kind}`,
      `it is one of ${Object.keys(KINDS).join(', ')}`,
    )
  const node = options.node ?? null
  if (kind === 'agent' && node === null)
    throw new UsageError(
      'an agent needs the node it is for',
      'mooring role create agent --node host-a',
    )
  if (kind !== 'agent' && node !== null)
    throw new UsageError(`--node is for agents, and this is a role for ${AN_OR_A[kind]}`)
  if (node !== null && !NAME_PATTERN.test(node))
    throw new UsageError(
      `${node} cannot be the name of a node`,
      'use 1 to 63 letters, digits, dots, underscores and hyphens; begin with a letter or digit',
    )
  const name =
    options.name ??
    (node === null ? undefined : `mooring_${node.toLowerCase().replace(/[^a-z0-9]+/g, '_')}`)
  if (name === undefined)
    throw new UsageError('the login needs a name', `mooring role create ${kind} --name ann`)
  checkRoleName(name)
  const verifier =
    options.passwordFile === undefined ? null : scramVerifier(passwordOf(options.passwordFile))
  const sql = roleSql({ kind, name, node, verifier })
  print(options.json ? json({ role: name, node, sql }) : sql)
}

const AN_OR_A: Record<Kind, string> = {
  agent: 'an agent',
  operator: 'an operator',
  viewer: 'a viewer',
  workload: 'a workload',
}

const isKind = (text: string): text is Kind => Object.hasOwn(KINDS, text)

function checkRoleName(name: string): void {
  // eslint-disable-next-line no-control-regex
  if (
    name === '' ||
    Buffer.byteLength(name) > 63 ||
    /[\u0000-\u001f\u007f]/.test(name) ||
    /^pg_/.test(name) ||
    /^mooring_(agent|operator|viewer|workload)$/.test(name)
  ) {
    throw new UsageError(
      `${JSON.stringify(name)} cannot be the name of a login`,
      'use 1 to 63 bytes, not beginning with pg_, and none of the group roles; see --name',
    )
  }
}

/** Pure. To be run by a superuser, or by the owner of the schema with createrole and the group. */
export function roleSql({
  kind,
  name,
  node,
  verifier,
}: {
  kind: Kind
  name: string
  node: string | null
  verifier: string | null
}): string {
  const role = identifier(name)
  // an agent holds up to five connections, and for a moment those of its successor
  const limit = kind === 'agent' ? ' connection limit 10' : ''
  const password = verifier === null ? '' : ` password ${literal(verifier)}`
  const lines = [
    'begin;',
    `create role ${role} login${limit}${password};`,
    ...(verifier === null
      ? [
          '-- no password: use certificate or peer authentication (pg_hba.conf),',
          `-- or set a password with \\password ${name}`,
        ]
      : []),
    `grant ${KINDS[kind]} to ${role};`,
  ]
  if (node !== null) {
    lines.push(
      '-- binds the name to this login: the next beat of an agent with another role is rejected',
      'insert into mooring.node (name, role_name)',
      `values (${literal(node)}, ${literal(name)})`,
      'on conflict (name) do update set role_name = excluded.role_name;',
    )
  }
  return [...lines, 'commit;'].join('\n')
}

/**
 * As Postgres stores it (RFC 5803, 4096 rounds). Plain ASCII only, for which SASLprep changes
 * nothing.
 */
export function scramVerifier(password: string, salt = randomBytes(16)): string {
  const rounds = 4096
  const salted = pbkdf2Sync(password, salt, rounds, 32, 'sha256')
  const keyOf = (text: string): Buffer => createHmac('sha256', salted).update(text).digest()
  const stored = createHash('sha256').update(keyOf('Client Key')).digest('base64')
  const server = keyOf('Server Key').toString('base64')
  return `SCRAM-SHA-256$${rounds}:${salt.toString('base64')}$${stored}:${server}`
}

function passwordOf(file: string): string {
  const made = generatedInto(file)
  if (made !== null) return made
  let text: string
  try {
    text = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new UsageError(
      `the password file ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`,
    )
  }
  if (!/^[!-~]{8,1000}$/.test(text))
    throw new UsageError(
      `${file} holds no password that can be used`,
      'write one line of 8 to 1000 printable ASCII characters without spaces, ' +
        'or name a file that does not exist yet',
    )
  return text
}

/** Null when the file is there already. */
function generatedInto(file: string): string | null {
  let handle: number
  try {
    handle = openSync(file, 'wx', 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null
    throw new UsageError(
      `the password file ${file} cannot be made (${(error as NodeJS.ErrnoException).code})`,
    )
  }
  try {
    // needs no percent-encoding in DATABASE_URL
    const password = randomBytes(24).toString('base64url')
    writeSync(handle, `${password}\n`)
    return password
  } finally {
    closeSync(handle)
  }
}

const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Also right where standard_conforming_strings is off. */
const literal = (text: string): string =>
  text.includes('\\')
    ? `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
    : `'${text.replaceAll("'", "''")}'`
