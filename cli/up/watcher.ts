/** Reads the fleet over one connection, which is opened again after it breaks. */
import { createQueriesWithDeadline } from '../queries/with-deadline.js'
import { connect } from '../database.js'
import { createQueries } from '../queries/queries.js'
import type { Queries } from '../queries/queries.js'
import { createEventFollower } from '../events/follow.js'
import type { FleetView } from './snapshot.js'

export interface Watcher {
  /**
   * The fleet at this moment. Rejects when the database is late; the next read opens a connection.
   */
  read(): Promise<FleetView>
  close(): Promise<void>
}

const READ_DEADLINE_MS = 5_000
const UNPLACED_SHOWN = 3
const EVENTS_KEPT = 200

export function createWatcher(url: () => string): Watcher {
  const asked = createQueriesWithDeadline((timeoutMs) => connect(url(), timeoutMs))
  const follower = createEventFollower()
  let events: FleetView['events'] | null = null
  const readFleet = async (db: Queries): Promise<FleetView> => {
    const fleet = await db.fleet()
    const [nodes, states, fresh] = [await db.nodes(), await db.states(), await follower.next(db)]
    if (events) events = [...events.slice(-EVENTS_KEPT), ...fresh]
    else follower.markShown((events = await db.lastEvents(EVENTS_KEPT)))
    return {
      fleet,
      nodes,
      states,
      unplaced: fleet.waiting > 0 ? await db.unplaced(UNPLACED_SHOWN) : [],
      events,
    }
  }
  return {
    read: () => asked.ask(READ_DEADLINE_MS, (sql) => readFleet(createQueries(sql))),
    close: asked.close,
  }
}
