/**
 * Follows the events: each once, none lost.
 *
 * Ids come from a sequence, and an event becomes visible when its transaction commits. So a low id
 * may appear long after a high one, and a reader that asks for ids above its highest one would lose
 * it.
 *
 * Each look therefore starts at an id below which nothing new can appear: every transaction that
 * was open when that id was the last has ended. Events returned before are left out. An open
 * transaction makes the looks longer, up to WINDOW events; later stragglers beyond that are lost.
 */
import type { EventRow } from '../queries/rows.js'
import type { EventQueries, EventFilter } from '../queries/events.js'

export interface EventFollower {
  /** The events since the last call, in order of id. The first call returns none. */
  next(db: EventQueries): Promise<EventRow[]>
  /** These were shown already: next() leaves them out. */
  markShown(events: readonly EventRow[]): void
}

export const WINDOW = 10_000n
const PAGE = 5_000
/** A transaction takes the id of its event a moment before it counts as open. */
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
  const shown = new Set<string>()
  let marks: Mark[] = []
  let low = 0n
  let lastTop: bigint | null = null

  return {
    markShown(events) {
      for (const { id } of events) shown.add(id)
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
      // only here, because a look that fails half way returns nothing
      const fresh = first ? [] : found.filter(({ id }) => !shown.has(id))
      for (const { id } of found) shown.add(id)
      low = marks
        .filter(
          (mark) =>
            mark.openUntil <= BigInt(horizon.all_ended_below) && now() - mark.at >= GRACE_MS,
        )
        .map((mark) => mark.top)
        .reduce(larger, low)
      for (const id of shown) if (BigInt(id) <= low) shown.delete(id)
      marks = marks.filter((mark) => mark.top > low)
      // without new events since the last mark, that mark suffices
      if (top > (marks.at(-1)?.top ?? low))
        marks.push({ top, openUntil: BigInt(horizon.open_until), at: now() })
      lastTop = top
      return fresh
    },
  }
}
