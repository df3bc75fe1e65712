/**
 * The items in the agent's folder that cleanup may remove: logs with their older parts, packages,
 * work folders. Also how an item is renamed out of the way. Other files there are not touched.
 */
import { randomUUID } from 'node:crypto'
import { renameSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

export const KINDS = ['logs', 'packages', 'work'] as const
export type Kind = (typeof KINDS)[number]

export interface Item {
  kind: Kind
  name: string
  key: string
  /** Oldest first, so that a crash during removal leaves the end of a log. */
  parts: readonly string[]
  /** Changes when the item is written to or replaced. */
  state: string
}

const NAMES: Record<Kind, RegExp> = {
  logs: /^(\d{1,19})\.log(?:\.(\d+)\.gz|\.tmp)?$/,
  packages: /^((?:@[^@+]+\+)?[^@+.][^@+]*@\d.*)$/,
  work: /^(\d{1,19})$/,
}
const SET_ASIDE_PREFIX = '.gone-'

export async function itemsOf(folder: string, kind: Kind): Promise<Item[]> {
  const partsOf = new Map<string, string[]>()
  for (const file of await namesIn(join(folder, kind))) {
    const name = NAMES[kind].exec(file)?.[1]
    if (name !== undefined) partsOf.set(name, [...(partsOf.get(name) ?? []), file])
  }
  const items: Item[] = []
  for (const [name, files] of partsOf) {
    const parts = files.sort((a, b) => ageOf(b) - ageOf(a))
    const state = await stateOf(folder, kind, parts)
    if (state !== null) items.push({ kind, name, key: `${kind}/${name}`, parts, state })
  }
  return items
}

/** null: it does not exist. */
export async function stateOf(
  folder: string,
  kind: Kind,
  parts: readonly string[],
): Promise<string | null> {
  return lstat(join(folder, kind, parts.at(-1)!), { bigint: true }).then(
    ({ ino, size, mtimeNs }) => `${ino} ${size} ${mtimeNs}`,
    () => null,
  )
}

/**
 * Renames an item in one synchronous step, within its folder, because a full disk has no room for
 * another one. Afterwards only pathsSetAside() finds it.
 */
export function moveAside(folder: string, { kind, parts }: Item): void {
  for (const part of parts)
    moveIfThere(join(folder, kind, part), join(folder, kind, SET_ASIDE_PREFIX + randomUUID()))
}

/** What this or an earlier agent moved aside and has not deleted yet. */
export async function pathsSetAside(folder: string): Promise<string[]> {
  const names = await Promise.all(
    KINDS.map(async (kind) => (await namesIn(join(folder, kind))).map((name) => join(kind, name))),
  )
  return names
    .flat()
    .filter((name) => name.includes(`/${SET_ASIDE_PREFIX}`))
    .map((name) => join(folder, name))
}

/** Log rotation may have renamed a part meanwhile. The next round finds it. */
function moveIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** The age of a part of a log. An unfinished rotation (.tmp) is the oldest, the file the newest. */
const ageOf = (file: string): number =>
  file.endsWith('.tmp') ? Number.MAX_SAFE_INTEGER : Number(NAMES.logs.exec(file)?.[2] ?? 0)

async function namesIn(path: string): Promise<string[]> {
  return readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
