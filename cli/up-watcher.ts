/** Looks at the fleet again and again, over one connection that is made anew when it breaks. */
import { connect } from './database.js'
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
  let sql = connect(url())
  const follower = createEventFollower()
  let events: FleetView['events'] | null = null
  const look = async (): Promise<FleetView> => {
    const db = createCliDb(sql)
    const fleet = await db.fleet()
    const [nodes, states, fresh] = [await db.nodes(), await db.states(), await follower.next(db)]
    if (events) events = [...events.slice(-EVENTS_KEPT), ...fresh]
    else follower.told(events = await db.lastEvents(EVENTS_KEPT))
    return { fleet, nodes, states, unplaced: fleet.waiting > 0 ? await db.unplaced(UNPLACED_SHOWN) : [], events }
  }
  return {
    async look() {
      // the driver itself waits for ever for a server that is stopped or cut off
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => { reject(Object.assign(new Error('no answer from the database'), { code: 'ETIMEDOUT' })) }, LOOK_DEADLINE_MS)
      })
      try {
        return await Promise.race([look(), late])
      } catch (error) {
        if (isConnectionProblem(error)) {
          void sql.end({ timeout: 0 }).catch(() => {})
          sql = connect(url())
        }
        throw error
      } finally {
        clearTimeout(timer)
      }
    },
    close: () => sql.end({ timeout: 1 }),
  }
}
