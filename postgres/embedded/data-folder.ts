import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Binaries } from './binaries.js'
import { requireOwnFolder } from '../../host/users.js'
import { reachable, type Identity } from './identity.js'

export const DATABASE = 'mooring'
// not `mooring`: "$user" in the search_path would put a user's own tables into that schema
export const SUPERUSER = 'postgres'

/**
 * The folder below which the server's user may write. It is inside the state folder where that user
 * can reach it. Else it is a folder in /var/tmp, named after the state folder so that later starts
 * find it.
 */
export function serverRoot(stateDir: string, identity: Identity): string {
  const key = createHash('sha256').update(realpathSync(stateDir)).digest('hex').slice(0, 12)
  return reachable(stateDir, identity)
    ? join(realpathSync(stateDir), 'postgres')
    : join('/var/tmp', `mooring-data-${key}`)
}

export function makeServerRoot(stateDir: string, identity: Identity): string {
  mkdirSync(stateDir, { recursive: true })
  requireOwnFolder(stateDir)
  const root = serverRoot(stateDir, identity)
  try {
    mkdirSync(root, { mode: 0o755 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  // checked before use: in /var/tmp another user may have made a folder or a link of this name
  const stat = lstatSync(root)
  const me = process.getuid?.()
  if (!stat.isDirectory() || ![me, identity.uid ?? me].includes(stat.uid))
    throw new Error(
      `${root} is no folder of this user; remove it, or choose another state directory`,
    )
  give(root, identity)
  return root
}

/** The name carries the major version: a newer server never reads the files of an older one. */
export const dataFolder = (root: string, major: number): string => join(root, `data-${major}`)

/** Data folders of other major versions; reported once, at the first start of a new version. */
export function otherMajors(root: string, major: number): string[] {
  if (existsSync(dataFolder(root, major))) return []
  return readdirSync(root)
    .filter((name) => /^data-\d+$/.test(name))
    .map((name) => join(root, name))
}

/**
 * Makes the cluster and its database, once. Of two first starts at once each makes its own in a
 * private folder. The rename decides, and the loser deletes its folder.
 */
export async function makeDataFolder(
  root: string,
  binaries: Binaries,
  identity: Identity,
  durable: boolean,
): Promise<string> {
  const dataDir = dataFolder(root, binaries.major)
  if (existsSync(join(dataDir, 'PG_VERSION'))) return dataDir
  const unfinished = join(root, `init-${process.pid}-${randomBytes(4).toString('hex')}`)
  const password = randomBytes(18).toString('base64url')
  const passwordFile = `${unfinished}.password`
  try {
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 })
    give(passwordFile, identity)
    await run(binaries, 'initdb', identity, root, [
      '-D',
      unfinished,
      '-U',
      SUPERUSER,
      '-A',
      'scram-sha-256',
      '--pwfile',
      passwordFile,
      '-E',
      'UTF8',
      '--locale=C',
      ...(durable ? [] : ['--no-sync']),
    ])
    // single-user mode: the database exists before the folder gets its name
    await run(
      binaries,
      'postgres',
      identity,
      root,
      ['--single', '-D', unfinished, ...(durable ? [] : ['-F']), 'postgres'],
      `create database ${DATABASE};\n`,
    )
    writeFileSync(join(unfinished, 'mooring.password'), password, { mode: 0o600 })
    writeFileSync(join(unfinished, 'mooring.conf'), '', { mode: 0o644 })
    give(join(unfinished, 'mooring.password'), identity)
    appendFileSync(
      join(unfinished, 'postgresql.conf'),
      `\ninclude 'mooring.conf'   # written again at every start\n`,
    )
    renameSync(unfinished, dataDir)
  } catch (error) {
    if (!existsSync(join(dataDir, 'PG_VERSION'))) throw error
  } finally {
    rmSync(passwordFile, { force: true })
    rmSync(unfinished, { recursive: true, force: true })
  }
  return dataDir
}

export const passwordOf = (dataDir: string): string =>
  readFileSync(join(dataDir, 'mooring.password'), 'utf8').trim()

/** The port of the last start. It is kept, so that a noted address stays valid. */
export function lastPort(dataDir: string): number | undefined {
  return (
    Number(/^port = (\d+)$/m.exec(readFileSync(join(dataDir, 'mooring.conf'), 'utf8'))?.[1]) ||
    undefined
  )
}

export function writeSettings(
  dataDir: string,
  identity: Identity,
  settings: Readonly<Record<string, string>>,
): void {
  const quoted = (value: string) =>
    /^\d+$/.test(value) ? value : `'${value.replaceAll("'", "''")}'`
  const unfinished = join(dataDir, `mooring.conf.${process.pid}`)
  writeFileSync(
    unfinished,
    Object.entries(settings)
      .map(([name, value]) => `${name} = ${quoted(value)}\n`)
      .join(''),
    { mode: 0o644 },
  )
  give(unfinished, identity)
  renameSync(unfinished, join(dataDir, 'mooring.conf'))
}

/** Runs one of the server's programs as the server's user, without the caller's PG* variables. */
export function run(
  binaries: Binaries,
  name: string,
  identity: Identity,
  cwd: string,
  args: string[],
  stdin = '',
): Promise<void> {
  const env = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }
  return new Promise((resolve, reject) => {
    const child = execFile(
      join(binaries.bindir, name),
      args,
      { ...identity, cwd, env, maxBuffer: 1 << 24 },
      (error, stdout, stderr) => {
        if (error)
          reject(new Error(`${name} failed: ${`${stderr}${stdout}`.trim() || error.message}`))
        else resolve()
      },
    )
    child.stdin?.on('error', () => {}).end(stdin)
  })
}

function give(path: string, identity: Identity): void {
  if (identity.uid !== undefined && identity.gid !== undefined)
    chownSync(path, identity.uid, identity.gid)
}
