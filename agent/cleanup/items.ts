/** What lies in the agent's folder under a name of its own, and how it is renamed out of the way: logs with their older parts, packages, work folders. Anything else there is not looked at. */
import { randomUUID } from 'node:crypto'
import { renameSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

export const KINDS = ['logs', 'packages', 'work'] as const
export type Kind = (typeof KINDS)[number]

/** parts: the oldest first, so that what a crash leaves of a log is its end. state differs when it was written to, or is another. */
export interface Item {
  kind: Kind
  name: string
  key: string
  parts: readonly string[]
  state: string
}

const NAMES: Record<Kind, RegExp> = {
  logs: /^(\d{1,19})\.log(?:\.(\d+)\.gz|\.tmp)?$/,
  packages: /^((?:@[^@+]+\+)?[^@+.][^@+]*@\d.*)$/,
  work: /^(\d{1,19})$/,
}
const GRAVE = '.gone-'

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

/** null: it is not there. */
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

/** In one step of this process, and where it lies: a full disk has no room for a folder. Afterwards nobody finds it, and graves() does. */
export function moveAside(folder: string, { kind, parts }: Item): void {
  for (const part of parts)
    moveIfThere(join(folder, kind, part), join(folder, kind, GRAVE + randomUUID()))
}

/** What was moved aside, by this or an earlier agent, and is not deleted yet. */
export async function graves(folder: string): Promise<string[]> {
  const names = await Promise.all(
    KINDS.map(async (kind) => (await namesIn(join(folder, kind))).map((name) => join(kind, name))),
  )
  return names
    .flat()
    .filter((name) => name.includes(`/${GRAVE}`))
    .map((name) => join(folder, name))
}

/** The rotation of a log may have given a part another name: the next look finds it. */
function moveIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** Of a part of a log: what rotation left unfinished is the oldest, the file itself the newest. */
const ageOf = (file: string): number =>
  file.endsWith('.tmp') ? Number.MAX_SAFE_INTEGER : Number(NAMES.logs.exec(file)?.[2] ?? 0)

async function namesIn(path: string): Promise<string[]> {
  return readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
