/**
 * Which file of an installed package is run: the bin named like the package, else its only bin,
 * else its main (only if it has no bin). With several bins and none of that name there is no
 * default. A path that leaves the package is refused.
 */
import { readFile, realpath, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, join, resolve, sep } from 'node:path'

export interface Entry {
  /** Absolute, inside the package's folder. */
  file: string
  /** node: a script for node. none: a program, or a script whose first line names another. */
  interpreter: 'node' | 'none'
}

/** The message is one sentence for the operator. */
export class EntryError extends Error {
  override name = 'EntryError'
}

interface Manifest {
  name: string
  version: string
  bin: Record<string, string>
  main: string | null
  hasExports: boolean
}

/** Null when there is no readable package.json. */
export async function readManifest(packageDir: string): Promise<Manifest | null> {
  let raw: unknown
  try {
    raw = JSON.parse(await readFile(join(packageDir, 'package.json'), 'utf8'))
  } catch {
    return null
  }
  if (typeof raw !== 'object' || raw === null) return null
  const { name, version, bin, main, exports } = raw as Record<string, unknown>
  if (typeof name !== 'string' || typeof version !== 'string') return null
  return {
    name,
    version,
    bin: binsOf(name, bin),
    main: typeof main === 'string' && main !== '' ? main : null,
    hasExports: exports !== undefined,
  }
}

export async function resolveEntry(packageDir: string): Promise<Entry> {
  const manifest = await readManifest(packageDir)
  if (!manifest) throw new EntryError('the installed package has no readable package.json')
  const spec = `${manifest.name}@${manifest.version}`

  const bins = Object.keys(manifest.bin)
  if (bins.length > 0) {
    const chosen =
      bins.find((bin) => bin === lastPart(manifest.name)) ??
      (bins.length === 1 ? bins[0] : undefined)
    if (chosen === undefined) {
      throw new EntryError(
        `${spec} has several bins and none is named ${lastPart(manifest.name)}: ${shown(bins)}; ` +
          "name one of them as the deployment's command",
      )
    }
    const file = await within(packageDir, manifest.bin[chosen]!, spec)
    if (!file)
      throw new EntryError(
        `${spec} names ${JSON.stringify(manifest.bin[chosen])} as its bin ${chosen}, ` +
          'but has no such file',
      )
    return { file, interpreter: await interpreterOf(file) }
  }

  const main = await findMain(packageDir, manifest, spec)
  if (main) return { file: main, interpreter: 'node' }
  throw new EntryError(
    manifest.main === null
      ? `${spec} has neither a bin nor a main, so there is nothing to run: ` +
          'it is a library, or the deployment needs a command'
      : `${spec} names ${JSON.stringify(manifest.main)} as its main, but has no such file`,
  )
}

async function findMain(
  packageDir: string,
  manifest: Manifest,
  spec: string,
): Promise<string | null> {
  // in the order of node's own search
  const candidates =
    manifest.main === null
      ? ['index.js']
      : [manifest.main, `${manifest.main}.js`, join(manifest.main, 'index.js'), 'index.js']
  for (const candidate of candidates) {
    const file = await within(packageDir, candidate, spec)
    if (file) return file
  }
  if (manifest.main !== null || !manifest.hasExports) return null
  try {
    const root = await realpath(packageDir)
    // the exports of a package let it import itself by name
    return await within(
      packageDir,
      createRequire(join(root, 'package.json')).resolve(manifest.name),
      spec,
    )
  } catch {
    return null
  }
}

/** Null when there is no such file. Throws when it lies outside the package, by .. or by a link. */
async function within(packageDir: string, path: string, spec: string): Promise<string | null> {
  const root = await realpath(packageDir)
  const file = await realpath(resolve(root, path)).catch(() => null)
  const named = file ?? resolve(root, path)
  if (named !== root && !named.startsWith(root + sep))
    throw new EntryError(`${spec} names ${JSON.stringify(path)}, which lies outside the package`)
  return file !== null && (await stat(file)).isFile() ? file : null
}

async function interpreterOf(file: string): Promise<Entry['interpreter']> {
  const head = await readFile(file).then((bytes) => bytes.subarray(0, 256).toString('latin1'))
  const firstLine = head.split('\n', 1)[0]!
  const otherScript = firstLine.startsWith('#!') && !/\bnode(js)?\b/.test(firstLine)
  return otherScript || head.startsWith('\x7fELF') ? 'none' : 'node'
}

function binsOf(name: string, bin: unknown): Record<string, string> {
  if (typeof bin === 'string' && bin !== '') return { [lastPart(name)]: bin }
  if (typeof bin !== 'object' || bin === null) return {}
  return Object.fromEntries(
    Object.entries(bin).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== '',
    ),
  )
}

function lastPart(name: string): string {
  return basename(name)
}

function shown(bins: readonly string[]): string {
  return bins.length > 10
    ? `${bins.slice(0, 10).join(', ')} and ${bins.length - 10} more`
    : bins.join(', ')
}
