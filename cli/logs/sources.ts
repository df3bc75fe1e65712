/**
 * Where the log of an assignment on a node is read from: its file, where the node's agent keeps it in our state directory, else through Postgres, a slice at a time.
 *
 * A folder of the node's name is not enough: a state directory may belong to another fleet, in which the same id on a host of the same name means something else. So
 * the session that the agent noted there has to be the one that holds the name in the database.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { readRemovalLedger, whyLogIsGone } from '../../state-folder/removal-ledger.js'
import { logState, readLog, logFileOf, type LogStart } from '../../state-folder/log-reader.js'
import { join } from 'node:path'
import type { LogDb } from '../queries/logs.js'
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
   * null: there is no log yet, or `givenUp` said that nobody wants it any more. Where there is nothing new, waits up to waitMs for it.
   * Rejects when the node does not answer (MR006), or its agent has removed the log.
   */
  read(start: LogStart, waitMs: number, givenUp?: () => boolean): Promise<Slice | null>
}

/** Local reads are not bounded by what the database shall carry. */
const LOCAL_SLICE_BYTES = 4 * 1024 * 1024
const LOOK_MS = { first: 10, most: 200 }

export async function openLog(
  db: LogDb,
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
      for (let seen: string | null = null; ; await pause(LOOK_MS.most)) {
        const over = performance.now() >= until
        const state = await logState(path)
        if (state !== seen || over) {
          seen = state
          const slice = await readLog(path, start, LOCAL_SLICE_BYTES)
          const gone =
            over && slice === null
              ? whyLogIsGone(readRemovalLedger(folder), node, assignmentId)
              : null
          if (gone !== null) throw new CommandError(gone, elsewhere(assignmentId))
          if (over || (slice !== null && slice.bytes.length > 0)) return slice
        }
        if (givenUp()) return null
      }
    },
  }
}

function askedSource(db: LogDb, assignmentId: string, node: string): LogSource {
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
  `where else it ran says \`mooring history ${assignmentId}\`: then \`mooring logs ${assignmentId} --node NAME\``
