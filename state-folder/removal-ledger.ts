/**
 * What is over in the agent's folder, for how long, and whose logs were removed: `over.json`, so that an agent that is started again goes on counting.
 *
 * For how long is counted, not dated: each look adds the time since the last one of the same session, by the boot clock. So a step of the wall clock makes nothing old, and
 * the time in which no agent ran does not count. What was written to or made anew since the last look (another inode, size or mtime) begins at 0, as does
 * everything where the file is lost: too young is harmless.
 */
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Over {
  ms: number
  state: string
}

export interface RemovedLog {
  assignment_id: string
  at: string
}

export interface OverLedger {
  /** By path below the folder, `logs/12`. */
  over: Record<string, Over>
  /** The last ones, the newest last. */
  removed: RemovedLog[]
}

export interface Found {
  key: string
  state: string
}

/** Of logs that were removed longer ago, it is only known that they are not there. */
const REMOVED_KEPT = 2_000

/** Values in, values out. What is in use, or not there any more, is forgotten. */
export function advance(
  before: OverLedger['over'],
  found: readonly Found[],
  isInUse: (key: string) => boolean,
  elapsedMs: number,
): OverLedger['over'] {
  return Object.fromEntries(
    found
      .filter(({ key }) => !isInUse(key))
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
  const anew = new Set(assignmentIds)
  return [
    ...removed.filter(({ assignment_id }) => !anew.has(assignment_id)),
    ...assignmentIds.map((assignment_id) => ({ assignment_id, at })),
  ].slice(-REMOVED_KEPT)
}

export function readLedger(folder: string): OverLedger {
  try {
    const ledger = JSON.parse(readFileSync(fileOf(folder), 'utf8')) as Partial<OverLedger> | null
    const over = Object.entries(ledger?.over ?? {}).filter(
      ([, { ms, state }]) => Number.isFinite(ms) && ms >= 0 && typeof state === 'string',
    )
    return {
      over: Object.fromEntries(over),
      removed: (ledger?.removed ?? []).filter(
        ({ assignment_id, at }) => typeof assignment_id === 'string' && typeof at === 'string',
      ),
    }
  } catch {
    // never written, or cut short by a crash
    return { over: {}, removed: [] }
  }
}

export async function writeLedger(folder: string, ledger: OverLedger): Promise<void> {
  const draft = `${fileOf(folder)}.draft`
  await writeFile(draft, JSON.stringify(ledger), { mode: 0o600 })
  await rename(draft, fileOf(folder))
}

/** The sentence for who asks for a log that was removed; null: this one was not. */
export function whyLogIsGone(
  { removed }: Pick<OverLedger, 'removed'>,
  node: string,
  assignmentId: string,
): string | null {
  const log = removed.findLast(({ assignment_id }) => assignment_id === assignmentId)
  return log
    ? `the log of assignment ${assignmentId} on ${node} was removed on ${log.at}: it had ended there, and the agent keeps logs only for a while after that (--keep-logs)`
    : null
}

function fileOf(folder: string): string {
  return join(folder, 'over.json')
}
