/** Looks at the fleet again and again, over one connection that is made anew when it breaks. */
import { createAskedDb } from '../queries/deadline.js'
import { connect } from '../database.js'
import { createCliDb } from '../queries/queries.js'
import type { CliDb } from '../queries/queries.js'
import { createEventFollower } from '../events/follow.js'
import type { FleetView } from './snapshot.js'

export interface Watcher {
  /** The fleet now; rejects when the database does not answer in time, and tries with a new connection then. */
  look(): Promise<FleetView>
  close(): Promise<void>
}

const LOOK_DEADLINE_MS = 5_000
const UNPLACED_SHOWN = 3
const EVENTS_KEPT = 200

export function createWatcher(url: () => string): Watcher {
  const asked = createAskedDb(() => connect(url()))
  const follower = createEventFollower()
  let events: FleetView['events'] | null = null
  const look = async (db: CliDb): Promise<FleetView> => {
    const fleet = await db.fleet()
    const [nodes, states, fresh] = [await db.nodes(), await db.states(), await follower.next(db)]
    if (events) events = [...events.slice(-EVENTS_KEPT), ...fresh]
    else follower.told((events = await db.lastEvents(EVENTS_KEPT)))
    return {
      fleet,
      nodes,
      states,
      unplaced: fleet.waiting > 0 ? await db.unplaced(UNPLACED_SHOWN) : [],
      events,
    }
  }
  return {
    look: () => asked.ask(LOOK_DEADLINE_MS, (sql) => look(createCliDb(sql))),
    close: asked.close,
  }
}
