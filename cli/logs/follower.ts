/**
 * Follows the logs of assignments wherever these go: on with what comes, behind every rotation, to the next node when the owner changes, over a database that is away
 * for a while. What a node cannot tell now is not lost: its log stays where it is, and is read on where this left it.
 *
 * When the owner changes, what the former one still has to say comes first. What the new one wrote when it owned the assignment before is old and not shown: where each
 * former owner's log ends is asked at the beginning.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { LogStart } from '../../state-folder/log-reader.js'
import { errorCode } from '../../postgres/errors.js'
import type { LineWriter } from './lines.js'
import type { LogSource, Slice } from './sources.js'
import { isConnectionProblem, problemOf } from '../errors.js'

export interface FollowOptions {
  assignmentId: string
  /** Where to begin with the log that is shown first. */
  start: LogStart
  /** The present owner, looked up every now and then; null: nobody. */
  owner(): string | null
  /** Nodes that owned it before, the last one first. */
  former: readonly string[]
  open(node: string): Promise<LogSource>
  writer: LineWriter
  /** To the person at the terminal. */
  note(text: string): void
  /** The assignment is gone for good. */
  ended(): boolean
}

/** How long an agent waits for something new before it says that there is nothing: one notification each. */
const WAIT_MS = 10_000
const RETRY_MS = 500

export async function follow(options: FollowOptions): Promise<void> {
  const { assignmentId, owner, former, writer, note } = options
  const places = new Map<string, string>()
  const first = owner() ?? former[0] ?? null
  let node = first
  let noted = ''

  // not waited for: one that is silent must not keep the others' lines
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
    // it could not be asked at the beginning: what it wrote then cannot be told from what it writes now
    return former.includes(at) ? { tailLines: 0 } : { fromByte: 0 }
  }

  async function take(at: string, slice: Slice | null): Promise<number> {
    if (slice === null) return 0
    places.set(at, slice.next)
    await writer.write(at, slice.bytes)
    return slice.bytes.length
  }

  /** What a former owner still has to say. When it is dead it says no more. */
  async function drain(at: string): Promise<void> {
    for (let read = 1; read > 0;) {
      try {
        const source = await options.open(at)
        while (read > 0) read = await take(at, await source.read(startOn(at), 0))
      } catch (error) {
        if (isConnectionProblem(error)) await pause(RETRY_MS)
        else {
          note(
            `${at} does not answer any more: the last lines of ${assignmentId} there may be missing`,
          )
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
      // whether it is the file here that is read is looked up anew
      source = null
      const { message, code = message } = problemOf(error)
      if (code !== noted) note(`${message}; waiting`)
      noted = code
      await pause(RETRY_MS)
    }
  }
  if (node !== null) await drain(node)
}

/** A right or a definition that is missing does not come with time. */
export function isForGood(error: unknown): boolean {
  return /^(42|28|3[DF])/.test(errorCode(error) ?? '')
}
