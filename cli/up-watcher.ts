/** Looks at the fleet again and again, over one connection that is made anew when it breaks. */
import type { Sql } from 'postgres'
import { answered, connect } from './database.js'
import { createCliDb } from './db.js'
import { isConnectionProblem } from './errors.js'
import { createEventFollower } from './event-follow.js'
import type { FleetView } from './up-snapshot.js'

export interface Watcher {
  /** The fleet now; rejects when the database does not answer in time, and tries with a new connection then. */
  look(): Promise<FleetView>
  close(): Promise<void>
}

const LOOK_DEADLINE_MS = 5_000
const UNPLACED_SHOWN = 3
const EVENTS_KEPT = 200

export function createWatcher(url: () => string): Watcher {
  let connected: Promise<Sql> | null = null
  const follower = createEventFollower()
  let events: FleetView['events'] | null = null
  const look = async (): Promise<FleetView> => {
    const db = createCliDb(await (connected ??= connect(url())))
    const fleet = await db.fleet()
    const [nodes, states, fresh] = [await db.nodes(), await db.states(), await follower.next(db)]
    if (events) events = [...events.slice(-EVENTS_KEPT), ...fresh]
    else follower.told(events = await db.lastEvents(EVENTS_KEPT))
    return { fleet, nodes, states, unplaced: fleet.waiting > 0 ? await db.unplaced(UNPLACED_SHOWN) : [], events }
  }
  const hangUp = async (timeout: number): Promise<void> => {
    const last = connected
    connected = null
    await (await last?.catch(() => null))?.end({ timeout })
  }
  return {
    async look() {
      try {
        return await answered(LOOK_DEADLINE_MS, look())
      } catch (error) {
        if (isConnectionProblem(error)) void hangUp(0).catch(() => {})
        throw error
      }
    },
    close: () => hangUp(1),
  }
}
