/**
 * `removal-ledger.json`: how long each item in the agent's folder has been unused, and which logs
 * were removed. Ages add up time on the boot clock, so a change of the wall clock ages nothing, and
 * time without an agent does not count. When the file is lost, every age starts again at 0.
 */
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** An unused item. */
export interface Unused {
  ms: number
  state: string
}

export interface RemovedLog {
  assignment_id: string
  at: string
}

export interface RemovalLedger {
  /** By path below the folder, such as `logs/12`. */
  unused: Record<string, Unused>
  /** The most recent removals, newest last. */
  removed: RemovedLog[]
}

export interface Found {
  key: string
  state: string
}

/** How many removals are remembered. */
const REMOVED_KEPT = 2_000

/**
 * Adds elapsedMs to the age of each unused item. Values in, values out. Needed and missing items
 * are dropped. An item whose state (inode, size or mtime) has changed starts again at 0.
 */
export function advance(
  before: RemovalLedger['unused'],
  found: readonly Found[],
  isNeeded: (key: string) => boolean,
  elapsedMs: number,
): RemovalLedger['unused'] {
  return Object.fromEntries(
    found
      .filter(({ key }) => !isNeeded(key))
      .map(({ key, state }) => {
        const known = before[key]
        return [key, { ms: known?.state === state ? known.ms + elapsedMs : 0, state }]
      }),
  )
}

export function withRemoved(
  removed: readonly RemovedLog[],
  assignmentIds: readonly string[],
  at: string,
): RemovedLog[] {
  const again = new Set(assignmentIds)
  return [
    ...removed.filter(({ assignment_id }) => !again.has(assignment_id)),
    ...assignmentIds.map((assignment_id) => ({ assignment_id, at })),
  ].slice(-REMOVED_KEPT)
}

export function readRemovalLedger(folder: string): RemovalLedger {
  try {
    const ledger = JSON.parse(readFileSync(fileOf(folder), 'utf8')) as Partial<RemovalLedger> | null
    const unused = Object.entries(ledger?.unused ?? {}).filter(
      ([, { ms, state }]) => Number.isFinite(ms) && ms >= 0 && typeof state === 'string',
    )
    return {
      unused: Object.fromEntries(unused),
      removed: (ledger?.removed ?? []).filter(
        ({ assignment_id, at }) => typeof assignment_id === 'string' && typeof at === 'string',
      ),
    }
  } catch {
    // never written, or cut short by a crash
    return { unused: {}, removed: [] }
  }
}

export async function writeRemovalLedger(folder: string, ledger: RemovalLedger): Promise<void> {
  const draft = `${fileOf(folder)}.draft`
  await writeFile(draft, JSON.stringify(ledger), { mode: 0o600 })
  await rename(draft, fileOf(folder))
}

/** Why the log of an assignment is gone: a sentence for its reader. null: it was not removed. */
export function whyLogIsGone(
  { removed }: Pick<RemovalLedger, 'removed'>,
  node: string,
  assignmentId: string,
): string | null {
  const log = removed.findLast(({ assignment_id }) => assignment_id === assignmentId)
  return log
    ? `the log of assignment ${assignmentId} on ${node} was removed on ${log.at}: it had ended ` +
        'there, and the agent keeps logs only for a while after that (--keep-logs)'
    : null
}

function fileOf(folder: string): string {
  return join(folder, 'removal-ledger.json')
}
