/**
 * The database of `mooring up`: the one of DATABASE_URL, which is nobody's to start or stop here, or the embedded server.
 * The server ends with the `up` that started it, also with one that inherits it from a SIGKILLed predecessor; one that
 * `mooring db up` started stays.
 */
import { connect } from './database.js'
import { parseDatabaseUrl } from './database-url.js'
import { createCliDb } from './db.js'
import { clusterUrl, ensureCluster, stopCluster } from './embedded/cluster.js'
import { eventsSince, FOLLOW_WINDOW } from './commands/events.js'
import { isConnectionProblem, problemOf } from './errors.js'
import { spawnMooring } from './up-child.js'
import { markOf } from './up-lock.js'
import type { ProcessMark, UpLock } from './up-lock.js'
import type { FleetView } from './up-snapshot.js'

export interface UpServer {
  url(): string
  description(): string
  guard(): ProcessMark | null
  /** Starts the embedded server again when it has ended and is ours. True: its address has changed. */
  revive(): Promise<boolean>
  stop(): Promise<void>
}

export async function openUpServer(stateDir: string, lock: UpLock, note: (text: string) => void): Promise<UpServer> {
  const given = process.env['DATABASE_URL']
  if (given) {
    const { redacted } = parseDatabaseUrl(given)
    return { url: () => given, description: () => `DATABASE_URL, ${redacted}`, guard: () => null, revive: async () => false, stop: async () => {} }
  }
  const inherited = lock.inherited?.owns_server === true
  const found = await clusterUrl({ stateDir })
  const owns = found === undefined || inherited
  const guard = owns ? startGuard(stateDir) : null
  // said before it is true, so that a kill in between leaves no server behind
  lock.note({ owns_server: owns })
  let { url } = await ensureCluster({ stateDir, log: note })
  return {
    url: () => url,
    description: () => `embedded server, ${parseDatabaseUrl(url).redacted}`,
    guard: () => guard?.mark ?? null,
    async revive() {
      if (!owns) return false
      const before = url
      ;({ url } = await ensureCluster({ stateDir, log: note }))
      return url !== before
    },
    async stop() {
      if (owns) await stopCluster({ stateDir })
      guard?.dismiss()
    },
  }
}

function startGuard(stateDir: string): { mark: ProcessMark; dismiss(): void } {
  const env = { ...process.env }
  const guard = spawnMooring(['up-guard', '--state-dir', stateDir, '--of', String(process.pid)], env, `${stateDir}/up/guard.log`)
  guard.on('error', () => {}) // without it a SIGKILL of this process leaves the server running, nothing else
  guard.stdin?.on('error', () => {})
  guard.unref()
  return {
    mark: markOf(guard.pid ?? -1),
    dismiss() { guard.stdin?.end('done\n') },
  }
}

export interface Watcher {
  /** The fleet now; rejects when the database does not answer in time, and tries with a new connection then. */
  look(): Promise<FleetView>
  close(): Promise<void>
}

const LOOK_DEADLINE_MS = 5_000
const UNPLACED_SHOWN = 3

export function createWatcher(url: () => string): Watcher {
  let sql = connect(url())
  let events: FleetView['events'] = []
  const look = async (): Promise<FleetView> => {
    const db = createCliDb(sql)
    const fleet = await db.fleet()
    const [nodes, states, now] = [await db.nodes(), await db.states(), await eventsSince(db, events)]
    events = now.slice(-FOLLOW_WINDOW)
    return { fleet, nodes, states, unplaced: fleet.waiting > 0 ? await db.unplaced(UNPLACED_SHOWN) : [], events: now }
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

export function problemText(error: unknown): string {
  return problemOf(error).message
}
