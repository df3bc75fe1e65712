/**
 * Installs npm packages, each exact version once, into a folder that all assignments of this agent share:
 *
 *   packages/http-server@14.1.1/node_modules/http-server       (a / in a scope is written +)
 *   packages/http-server@14.1.1/.mooring.json                  what was there when it was complete
 *   packages/.tmp-*                                             installs under way; not looked into by anybody
 *
 * A folder under its own name is complete: it was checked, then renamed into place. So a failed, killed or cut-off install leaves nothing that looks like one.
 * Whether it still is complete is asked at each start, by a look at the names that were there: a cleaner that went through the folder is noticed then. It is replaced as a
 * whole, or where somebody wrote into it, mended: the folder is where its workloads run, and what they keep there is theirs.
 */
import {
  access,
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
import { join, relative } from 'node:path'
import type { Logger } from 'pino'
import type { PackageRef } from '../../syntax/package-reference.js'
import { packageFolderOf } from './package-folder.js'
import { parsePackageRef } from '../../syntax/package-reference.js'
import { sleep } from '../../host/waiting.js'
import { isWrittenSince } from '../../host/remove-folder.js'
import { readManifest, resolveEntry } from './entry-point.js'
import { InstallError, runNpm } from './npm-command.js'
import type { NpmOptions } from './npm-command.js'
import { createSharedWork } from './single-flight.js'

export interface InstalledPackage {
  /** The package's own folder. */
  packageDir: string
  /** Of its bins and those of what it depends on. */
  binDir: string
}

export interface NpmInstaller {
  /** The exact version a dist-tag means now; asks the registry each time, but once for all who ask at the same time. */
  resolveTag(ref: PackageRef, signal: AbortSignal): Promise<PackageRef>
  /** Of an exact reference. Null when it is not installed, or damaged. */
  find(ref: PackageRef): Promise<InstalledPackage | null>
  /** Installs an exact reference unless it is there; all who ask for it share one install, which is killed when the last of them calls it off. Rejects with InstallError. */
  install(ref: PackageRef, signal: AbortSignal): Promise<InstalledPackage>
}

interface Inventory {
  /** Relative to the folder, each of them a file. */
  files: string[]
  /** It was mended: what somebody had written there lies among what was installed since. */
  mended?: true
}

/** Written last, so that what is younger in a package's folder was not installed. */
const INVENTORY = '.mooring.json'
/** File systems stamp by a clock that ticks each 10 ms at the slowest: whoever writes after two of them is younger than the inventory. */
const FILE_CLOCK_MS = 20
const DEFAULT_CONCURRENCY = 2

export function createNpmInstaller({
  packagesDir,
  markPrefix,
  log,
  npm = {},
}: {
  packagesDir: string
  markPrefix: string
  log: Logger
  npm?: NpmOptions
}): NpmInstaller {
  const work = createSharedWork(npm.concurrency ?? DEFAULT_CONCURRENCY)
  // Of an earlier life: nobody comes back for them. Listed now, so that none of this life is among them.
  const cleaned = Promise.all(
    abandoned(packagesDir).map((folder) =>
      rm(folder, { recursive: true, force: true }).catch(() => {}),
    ),
  )

  const inPrivateFolder = async <T>(use: (folder: string) => Promise<T>): Promise<T> => {
    await cleaned
    await mkdir(packagesDir, { recursive: true })
    const folder = await mkdtemp(join(packagesDir, '.tmp-'))
    try {
      return await use(folder)
    } finally {
      await rm(folder, { recursive: true, force: true }).catch(() => {})
    }
  }

  const find = async (ref: PackageRef): Promise<InstalledPackage | null> => {
    const folder = join(packagesDir, packageFolderOf(ref))
    return (await isComplete(folder)) ? locate(folder, ref) : null
  }

  const installAlone = async (ref: PackageRef, signal: AbortSignal): Promise<InstalledPackage> => {
    const present = await find(ref)
    if (present) return present
    const beganAt = performance.now()
    const name = packageFolderOf(ref)
    const place = join(packagesDir, name)
    log.info({ event: 'install_started', package: name }, 'installing package')
    await inPrivateFolder(async (folder) => {
      // Without it npm would look for a project in the folders above.
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
        { ...ref, cwd: folder, signal, markPrefix },
        npm,
      )
      await verify(folder, ref)
      await writeFile(join(folder, INVENTORY), JSON.stringify(await takeInventory(folder, ref)))
      await sleep(FILE_CLOCK_MS, signal)
      if ((await exists(place)) && (await isWrittenTo(place, signal))) {
        await mend(place, folder)
        log.warn(
          { event: 'package_mended', package: name },
          'a file of this package was missing, and somebody had written into its folder: what was missing is back, the rest was left as it is',
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
      work.share(`install ${packageFolderOf(ref)}`, signal, (own) =>
        asInstallError(ref, () => installAlone(ref, own), own),
      ),
    resolveTag: (ref, signal) =>
      work.share(`resolve ${packageFolderOf(ref)}`, signal, (own) =>
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
                { ...ref, cwd, signal: own, markPrefix },
                npm,
              )
              const exact = parsePackageRef(ref.name, /"([^"]+)"\s*\]?\s*$/.exec(output)?.[1] ?? '')
              if ('reason' in exact || exact.kind !== 'exact')
                throw new InstallError(
                  `there is no ${ref.name}@${ref.version}: \`npm view ${ref.name} versions dist-tags\` lists what there is`,
                )
              return exact
            }),
          own,
        ),
      ),
  }
}

function locate(folder: string, ref: PackageRef): InstalledPackage {
  return {
    packageDir: join(folder, 'node_modules', ref.name),
    binDir: join(folder, 'node_modules', '.bin'),
  }
}

async function verify(folder: string, ref: PackageRef): Promise<void> {
  const manifest = await readManifest(locate(folder, ref).packageDir)
  // Build metadata (+x) is no part of a version to npm.
  if (manifest?.name === ref.name && manifest.version === ref.version.split('+')[0]) return
  throw new InstallError(
    `npm was asked for ${ref.name}@${ref.version} and installed ${manifest ? `${manifest.name}@${manifest.version}` : 'nothing of that name'}: check the registry in this user's npmrc`,
  )
}

/** Each package on the first level and the file that will be run: enough to notice a folder that something has been deleted from, at the price of a few dozen looks. */
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

/** True when somebody has written into a package's folder since it was installed, or where that cannot be told. */
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
  // A damaged one may be in use: out of the way at once, deleted with the private folder.
  await rename(place, `${folder}-old`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await rename(folder, place)
  await rm(`${folder}-old`, { recursive: true, force: true }).catch(() => {})
}

/** What is missing comes from a fresh install; what is there stays, for it may be a workload's data, in use. */
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
      `${ref.name}@${ref.version} cannot be installed (${code ?? message}): check the disk and the rights on the agent's state folder`,
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
