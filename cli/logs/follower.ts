/**
 * Follows the log of an assignment: through rotations, to the next node when the owner changes, and
 * through an absent database. A log that cannot be read now is continued later where it was left.
 *
 * When the owner changes, the rest of the former owner's log comes first. Lines that the new owner
 * wrote in an earlier ownership are not shown: the ends of all former logs are looked up at the
 * beginning.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { LogStart } from '../../state-folder/log-reader.js'
import { errorCode } from '../../postgres/errors.js'
import type { LineWriter } from './lines.js'
import type { LogSource, Slice } from './sources.js'
import { isConnectionProblem, problemOf } from '../errors.js'

export interface FollowOptions {
  assignmentId: string
  /** The start within the first log. */
  start: LogStart
  /** The present owner, looked up at intervals; null: none. */
  owner(): string | null
  /** Former owners, the latest first. */
  former: readonly string[]
  open(node: string): Promise<LogSource>
  writer: LineWriter
  /** Shown to people. */
  note(text: string): void
  /** The assignment was deleted. */
  ended(): boolean
}

/** How long an agent waits for new lines before it answers without any. */
const WAIT_MS = 10_000
const RETRY_MS = 500

export async function follow(options: FollowOptions): Promise<void> {
  const { assignmentId, owner, former, writer, note } = options
  const places = new Map<string, string>()
  const first = owner() ?? former[0] ?? null
  let node = first
  let noted = ''

  // not awaited: a silent node must not hold up the lines of the others
  for (const past of former) if (past !== first) void noteEnd(past)

  async function noteEnd(past: string): Promise<void> {
    const slice = await options
      .open(past)
      .then((source) => source.read({ tailLines: 0 }, 0))
      .catch(() => null)
    if (slice && !places.has(past)) places.set(past, slice.next)
  }

  function startOn(at: string): LogStart {
    const place = places.get(at)
    if (place !== undefined) return { after: place }
    if (at === first) return options.start
    // its end could not be looked up, so old lines cannot be told from new ones
    return former.includes(at) ? { tailLines: 0 } : { fromByte: 0 }
  }

  async function take(at: string, slice: Slice | null): Promise<number> {
    if (slice === null) return 0
    places.set(at, slice.next)
    await writer.write(at, slice.bytes)
    return slice.bytes.length
  }

  /** Reads the rest of a former owner's log. A dead node answers no more. */
  async function drain(at: string): Promise<void> {
    for (let read = 1; read > 0;) {
      try {
        const source = await options.open(at)
        while (read > 0) read = await take(at, await source.read(startOn(at), 0))
      } catch (error) {
        if (isConnectionProblem(error)) await pause(RETRY_MS)
        else {
          note(`${at} does not answer: the last lines of ${assignmentId} there may be missing`)
          break
        }
      }
    }
    await writer.end()
  }

  for (let source: LogSource | null = null; !options.ended();) {
    const now = owner()
    if (now !== null && now !== node) {
      if (node !== null) await drain(node)
      note(`${assignmentId} ${node === null ? 'runs on' : `moved from ${node} to`} ${now}`)
      node = now
      source = null
    }
    if (node === null) {
      await pause(RETRY_MS)
      continue
    }
    try {
      source ??= await options.open(node)
      const at = node
      await take(
        at,
        await source.read(
          startOn(at),
          WAIT_MS,
          () => options.ended() || (owner() !== null && owner() !== at),
        ),
      )
      noted = ''
    } catch (error) {
      if (isForGood(error)) throw error
      // the next attempt decides again whether a local file is read
      source = null
      const { message, code = message } = problemOf(error)
      if (code !== noted) note(`${message}; waiting`)
      noted = code
      await pause(RETRY_MS)
    }
  }
  if (node !== null) await drain(node)
}

/** True where waiting does not help: a missing right or definition. */
export function isForGood(error: unknown): boolean {
  return /^(42|28|3[DF])/.test(errorCode(error) ?? '')
}
