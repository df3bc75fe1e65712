/**
 * Where the log of an assignment on a node is read: its file, where the node's agent keeps it in
 * this state directory, else through Postgres, a slice at a time.
 *
 * A folder of the node's name is not enough, because the state directory may belong to another
 * fleet. The session noted in the folder must be the one that holds the name in the database.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { readRemovalLedger, whyLogIsGone } from '../../state-folder/removal-ledger.js'
import { logState, readLog, logFileOf, type LogStart } from '../../state-folder/log-reader.js'
import { join } from 'node:path'
import type { LogQueries } from '../queries/logs.js'
import { CommandError } from '../errors.js'
import { localSession } from './files.js'

export interface Slice {
  start: number
  size: number
  bytes: Buffer
  next: string
  more: boolean
}

export interface LogSource {
  readonly node: string
  /**
   * Null: there is no log yet, or `givenUp` returned true. Waits up to waitMs for new lines.
   * Rejects when the node does not answer (MR006), or its agent has removed the log.
   */
  read(start: LogStart, waitMs: number, givenUp?: () => boolean): Promise<Slice | null>
}

/** Local reads may be larger than those through the database. */
const LOCAL_SLICE_BYTES = 4 * 1024 * 1024
const LOOK_MS = { first: 10, most: 200 }

export async function openLog(
  db: LogQueries,
  stateDir: string,
  assignmentId: string,
  node: string,
): Promise<LogSource> {
  const session = localSession(stateDir, node)
  const here = session !== null && session === (await db.sessionOf(node))
  return here ? fileSource(stateDir, assignmentId, node) : askedSource(db, assignmentId, node)
}

export function fileSource(stateDir: string, assignmentId: string, node: string): LogSource {
  const folder = join(stateDir, 'agents', node)
  const path = logFileOf(folder, assignmentId)
  return {
    node,
    async read(start, waitMs, givenUp = () => false) {
      const until = performance.now() + waitMs
      for (let known: string | null = null; ; await pause(LOOK_MS.most)) {
        const late = performance.now() >= until
        const state = await logState(path)
        if (state !== known || late) {
          known = state
          const slice = await readLog(path, start, LOCAL_SLICE_BYTES)
          const gone =
            late && slice === null
              ? whyLogIsGone(readRemovalLedger(folder), node, assignmentId)
              : null
          if (gone !== null) throw new CommandError(gone, elsewhere(assignmentId))
          if (late || (slice !== null && slice.bytes.length > 0)) return slice
        }
        if (givenUp()) return null
      }
    },
  }
}

function askedSource(db: LogQueries, assignmentId: string, node: string): LogSource {
  return {
    node,
    async read(start, waitMs, givenUp = () => false) {
      const request = await db.requestLog(assignmentId, node, start, waitMs)
      for (let lookMs = LOOK_MS.first; ; lookMs = Math.min(LOOK_MS.most, lookMs * 1.5)) {
        await pause(lookMs)
        const row = await db.readLog(request)
        if (row?.data != null)
          return {
            start: Number(row.start_byte),
            size: Number(row.size),
            bytes: row.data,
            next: row.next!,
            more: row.more === true,
          }
        if (row && row.size === '0') return null
        if (row)
          throw new CommandError(row.error ?? `${node} answered nothing`, elsewhere(assignmentId))
        if (givenUp()) return null
      }
    },
  }
}

const elsewhere = (assignmentId: string): string =>
  `\`mooring history ${assignmentId}\` shows its other nodes; ` +
  `then \`mooring logs ${assignmentId} --node NAME\``
