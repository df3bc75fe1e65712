/**
 * Follows the events: each once, none lost.
 *
 * Ids come from a sequence when an event is written, and events become visible when their transaction is committed. A low id may therefore turn up
 * long after a high one: whoever asks for what is above the highest id he saw loses it. So each look goes back to an id below which nothing can come any more, because
 * every transaction that was open when that id was the last has ended, and leaves out what was told before. While somebody's transaction stays open the looks get
 * longer, up to WINDOW events; beyond that a straggler is not waited for.
 */
import type { EventRow } from '../queries/rows.js'
import type { EventQueries, EventFilter } from '../queries/events.js'

export interface EventFollower {
  /** What came since the last call, in order of id. The first call takes the present for known and returns nothing. */
  next(db: EventQueries): Promise<EventRow[]>
  /** These have been told: they are not returned. */
  told(events: readonly EventRow[]): void
}

export const WINDOW = 10_000n
const PAGE = 5_000
/** A transaction takes an id for its event a moment before it has a number of its own and counts as open. */
const GRACE_MS = 2_000

interface Mark {
  top: bigint
  openUntil: bigint
  at: number
}

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b)

export function createEventFollower(
  filter: EventFilter = {},
  now: () => number = () => performance.now(),
): EventFollower {
  const told = new Set<string>()
  let marks: Mark[] = []
  let low = 0n
  let lastTop: bigint | null = null

  return {
    told(events) {
      for (const { id } of events) told.add(id)
    },
    async next(db) {
      const horizon = await db.eventHorizon()
      const top = BigInt(horizon.top)
      const first = lastTop === null
      low = larger(low, (lastTop ?? top) - WINDOW)
      const found: EventRow[] = []
      for (
        let page = await db.eventsAfter(low, filter, PAGE);
        ;
        page = await db.eventsAfter(BigInt(page.at(-1)!.id), filter, PAGE)
      ) {
        found.push(...page)
        if (page.length < PAGE) break
      }
      // only now: a look that failed half way has told nothing, and what is settled had to be read once more
      const fresh = first ? [] : found.filter(({ id }) => !told.has(id))
      for (const { id } of found) told.add(id)
      low = marks
        .filter(
          (mark) =>
            mark.openUntil <= BigInt(horizon.all_ended_below) && now() - mark.at >= GRACE_MS,
        )
        .map((mark) => mark.top)
        .reduce(larger, low)
      for (const id of told) if (BigInt(id) <= low) told.delete(id)
      marks = marks.filter((mark) => mark.top > low)
      // where nothing came since the last mark that one says as much, and sooner
      if (top > (marks.at(-1)?.top ?? low))
        marks.push({ top, openUntil: BigInt(horizon.open_until), at: now() })
      lastTop = top
      return fresh
    },
  }
}
