/**
 * Installs npm packages, each exact version once, for all assignments of this agent:
 *
 *   packages/http-server@14.1.1/node_modules/http-server       (a / in a scope is written +)
 *   packages/http-server@14.1.1/.mooring.json                  the inventory of a complete install
 *   packages/.tmp-*                                            installs in progress
 *
 * A folder under its final name is complete, because it is checked before it is renamed into place.
 * How damage is noticed and mended: README.md.
 */
import {
  access,
  chmod,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises'
import { readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import type { Logger } from 'pino'
import type { PackageRef } from '../../syntax/package-reference.js'
import { packageFolderOf } from './package-folder.js'
import { parsePackageRef } from '../../syntax/package-reference.js'
import { sleep } from '../../host/waiting.js'
import { isWrittenSince } from '../../host/remove-folder.js'
import { readManifest, resolveEntry } from './entry-point.js'
import { InstallError, npmCacheBeside, runNpm } from './npm-command.js'
import type { NpmOptions } from './npm-command.js'
import { createSingleFlight } from './single-flight.js'
import type { WorkloadUser } from '../workload-user.js'

export interface InstalledPackage {
  /** The package's own folder. */
  packageDir: string
  /** Contains its bins and those of its dependencies. */
  binDir: string
}

export interface NpmInstaller {
  /** The version that a dist-tag means now. Concurrent calls share one question to the registry. */
  resolveTag(ref: PackageRef, signal: AbortSignal): Promise<PackageRef>
  /** Takes an exact reference. Null when the package is not installed, or damaged. */
  find(ref: PackageRef): Promise<InstalledPackage | null>
  /**
   * Installs an exact reference unless it is installed. Concurrent calls share one install, which
   * is killed when the last caller aborts. Rejects with InstallError.
   */
  install(ref: PackageRef, signal: AbortSignal): Promise<InstalledPackage>
}

interface Inventory {
  /** Paths of files, relative to the folder. */
  files: string[]
  /** The folder was mended, so it contains files that were not installed. */
  mended?: true
}

const NPMRC = '.npmrc'
/** Written last: a younger file in a package's folder was not installed. */
const INVENTORY = '.mooring.json'
/**
 * File systems take timestamps from a clock that ticks every 10 ms at the slowest. After two ticks
 * every new file is younger than the inventory.
 */
const FILE_CLOCK_MS = 20
const DEFAULT_CONCURRENCY = 2

export function createNpmInstaller({
  packagesDir,
  runIdPrefix,
  log,
  npm = {},
}: {
  packagesDir: string
  runIdPrefix: string
  log: Logger
  npm?: NpmOptions
}): NpmInstaller {
  const { user } = npm
  const npmRuns = createSingleFlight(npm.concurrency ?? DEFAULT_CONCURRENCY)
  // installs that an earlier life left unfinished; listed now, before this life starts any
  const cleaned = Promise.all(
    abandoned(packagesDir).map((folder) =>
      rm(folder, { recursive: true, force: true }).catch(() => {}),
    ),
  )

  const inPrivateFolder = async <T>(use: (folder: string) => Promise<T>): Promise<T> => {
    await cleaned
    await mkdir(packagesDir, { recursive: true })
    const folder = await mkdtemp(join(packagesDir, '.tmp-'))
    if (user) await lendTo(user, folder)
    try {
      return await use(folder)
    } finally {
      await rm(folder, { recursive: true, force: true }).catch(() => {})
    }
  }

  const find = async (ref: PackageRef): Promise<InstalledPackage | null> => {
    const folder = join(packagesDir, packageFolderOf(ref))
    if (!(await isComplete(folder))) return null
    // an agent without a workload user installed it, and closed it to others
    if (user && !((await lstat(folder)).mode & 0o001)) await takeBack(folder)
    return locate(folder, ref)
  }

  const installAlone = async (ref: PackageRef, signal: AbortSignal): Promise<InstalledPackage> => {
    const present = await find(ref)
    if (present) return present
    const beganAt = performance.now()
    const name = packageFolderOf(ref)
    const place = join(packagesDir, name)
    log.info({ event: 'install_started', package: name }, 'installing package')
    await inPrivateFolder(async (folder) => {
      // without this file npm would look for a project in the parent folders
      await writeFile(join(folder, 'package.json'), '{"private":true}\n')
      const scripts = npm.allowScripts === true ? '--no-ignore-scripts' : '--ignore-scripts'
      await runNpm(
        [
          'install',
          '--prefix',
          folder,
          scripts,
          '--no-audit',
          '--no-fund',
          '--omit=dev',
          '--no-save',
          '--no-package-lock',
          '--',
          `${ref.name}@${ref.version}`,
        ],
        { ...ref, cwd: folder, signal, runIdPrefix },
        npm,
      )
      if (user) await takeBack(folder)
      await verify(folder, ref)
      await writeFile(join(folder, INVENTORY), JSON.stringify(await takeInventory(folder, ref)))
      await sleep(FILE_CLOCK_MS, signal)
      if ((await exists(place)) && (await isWrittenTo(place, signal))) {
        await mend(place, folder)
        log.warn(
          { event: 'package_mended', package: name },
          'a file of this package was missing, and its folder has files that were not installed: ' +
            'what was missing is back, the rest was left as it is',
        )
      } else await putInPlace(folder, place)
    })
    log.info(
      {
        event: 'package_installed',
        package: name,
        duration_ms: Math.round(performance.now() - beganAt),
      },
      'package installed',
    )
    return locate(place, ref)
  }

  return {
    find,
    install: (ref, signal) =>
      npmRuns.run(`install ${packageFolderOf(ref)}`, signal, (own) =>
        asInstallError(ref, () => installAlone(ref, own), own),
      ),
    resolveTag: (ref, signal) =>
      npmRuns.run(`resolve ${packageFolderOf(ref)}`, signal, (own) =>
        asInstallError(
          ref,
          () =>
            inPrivateFolder(async (cwd) => {
              const output = await runNpm(
                [
                  'view',
                  '--prefer-online',
                  '--json',
                  '--',
                  `${ref.name}@${ref.version}`,
                  'version',
                ],
                { ...ref, cwd, signal: own, runIdPrefix },
                npm,
              )
              const exact = parsePackageRef(ref.name, /"([^"]+)"\s*\]?\s*$/.exec(output)?.[1] ?? '')
              if ('reason' in exact || exact.kind !== 'exact')
                throw new InstallError(
                  `there is no ${ref.name}@${ref.version}: ` +
                    `\`npm view ${ref.name} versions dist-tags\` lists what there is`,
                )
              return exact
            }),
          own,
        ),
      ),
  }
}

/** npm runs as this user in the folder, with the agent's npmrc: a registry may ask for a token. */
async function lendTo(user: WorkloadUser, folder: string): Promise<void> {
  const npmrc = await readFile(join(homedir(), '.npmrc')).catch(() => null)
  if (npmrc !== null) await writeFile(join(folder, NPMRC), npmrc, { mode: 0o600 })
  const cache = npmCacheBeside(folder)
  await mkdir(cache, { recursive: true, mode: 0o700 })
  for (const path of [cache, folder, ...(npmrc === null ? [] : [join(folder, NPMRC)])])
    await lchown(path, user.uid, user.gid)
}

/**
 * What was installed becomes the agent's, and workloads may read and run it but not change it. A
 * folder comes before what is in it, so that nothing can be put in place of an entry meanwhile.
 */
async function takeBack(folder: string): Promise<void> {
  await rm(join(folder, NPMRC), { force: true })
  const take = async (path: string, isFolder: boolean): Promise<void> => {
    await lchown(path, 0, 0)
    const { mode } = await lstat(path)
    const searched = isFolder || mode & 0o100 ? 0o111 : 0
    await chmod(path, (mode & 0o755) | 0o444 | searched)
    if (!isFolder) return
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (entry.isSymbolicLink()) await lchown(join(path, entry.name), 0, 0)
      else if (entry.isDirectory() || entry.isFile())
        await take(join(path, entry.name), entry.isDirectory())
      else await rm(join(path, entry.name), { force: true })
  }
  await take(folder, true)
}

function locate(folder: string, ref: PackageRef): InstalledPackage {
  return {
    packageDir: join(folder, 'node_modules', ref.name),
    binDir: join(folder, 'node_modules', '.bin'),
  }
}

async function verify(folder: string, ref: PackageRef): Promise<void> {
  const manifest = await readManifest(locate(folder, ref).packageDir)
  // npm ignores build metadata (+x)
  if (manifest?.name === ref.name && manifest.version === ref.version.split('+')[0]) return
  const installed = manifest ? `${manifest.name}@${manifest.version}` : 'nothing of that name'
  throw new InstallError(
    `npm was asked for ${ref.name}@${ref.version} and installed ${installed}: ` +
      "check the registry in this user's npmrc",
  )
}

/**
 * The package.json of each first-level package, and the file that will be run. That suffices to
 * notice deletions in the folder, and costs a few dozen checks of files per start.
 */
async function takeInventory(folder: string, ref: PackageRef): Promise<Inventory> {
  const modules = join(folder, 'node_modules')
  const names = await readdir(modules)
  const scoped = await Promise.all(
    names
      .filter((name) => name.startsWith('@'))
      .map(async (scope) => (await readdir(join(modules, scope))).map((name) => join(scope, name))),
  )
  const packages = [...names.filter((name) => !/^[@.]/.test(name)), ...scoped.flat()]
  const manifests = packages.map((name) => join('node_modules', name, 'package.json'))
  const root = await realpath(folder)
  const entry = await resolveEntry(locate(folder, ref).packageDir).then(
    (found) => [relative(root, found.file)],
    () => [],
  )
  const present = await Promise.all(manifests.map((file) => exists(join(folder, file))))
  return { files: [...manifests.filter((_, index) => present[index]), ...entry] }
}

/** True when the folder has files that were not installed, or when that cannot be determined. */
export async function isWrittenTo(folder: string, signal: AbortSignal): Promise<boolean> {
  return (
    (await readInventory(folder).then(
      ({ mended }) => mended === true,
      () => true,
    )) || (await isWrittenSince(folder, INVENTORY, signal).catch(() => true))
  )
}

async function readInventory(folder: string): Promise<Inventory> {
  return JSON.parse(await readFile(join(folder, INVENTORY), 'utf8')) as Inventory
}

async function isComplete(folder: string): Promise<boolean> {
  try {
    const inventory = await readInventory(folder)
    await Promise.all(inventory.files.map((file) => access(join(folder, file))))
    return true
  } catch {
    return false
  }
}

async function putInPlace(folder: string, place: string): Promise<void> {
  // a damaged package may be in use: it is renamed away in one step, then deleted
  await rename(place, `${folder}-old`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rename(folder, place)
  await rm(`${folder}-old`, { recursive: true, force: true }).catch(() => {})
}

/** Adds what is missing from a fresh install. Present files stay: they may be a workload's data. */
async function mend(place: string, fresh: string): Promise<void> {
  const inventory = await readInventory(fresh)
  await rm(join(fresh, INVENTORY))
  await putBack(place, fresh)
  await writeFile(
    join(place, INVENTORY),
    JSON.stringify({ ...inventory, mended: true } satisfies Inventory),
  )
}

async function putBack(place: string, fresh: string): Promise<void> {
  for (const entry of await readdir(fresh, { withFileTypes: true })) {
    const [to, from] = [join(place, entry.name), join(fresh, entry.name)]
    const there = await lstat(to).catch(() => null)
    if (there === null) await rename(from, to)
    else if (entry.isDirectory() && there.isDirectory()) await putBack(to, from)
  }
}

async function asInstallError<T>(
  ref: PackageRef,
  attempt: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    return await attempt()
  } catch (error) {
    if (error instanceof InstallError || signal.aborted) throw error
    const { code, message } = error as NodeJS.ErrnoException
    throw new InstallError(
      `${ref.name}@${ref.version} cannot be installed (${code ?? message}): ` +
        "check the disk and the rights on the agent's state folder",
    )
  }
}

function abandoned(packagesDir: string): string[] {
  try {
    return readdirSync(packagesDir)
      .filter((name) => name.startsWith('.tmp-'))
      .map((name) => join(packagesDir, name))
  } catch {
    return []
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
