/** The worker and the agents of `mooring up`, and the watch over them and their database. */
import { setTimeout as pause } from 'node:timers/promises'
import { withDbAt } from '../database.js'
import { isConnectionProblem, problemOf } from '../errors.js'
import { createUpChild } from './child.js'
import { freePort } from '../../host/free-port.js'
import { markOf } from '../../host/lock-file.js'
import type { UpLock } from './up-lock.js'
import type { UpOutput } from './output.js'
import type { UpServer } from './server.js'
import type { FleetView, Snapshot } from './snapshot.js'
import { createWatcher } from './watcher.js'

export interface UpFleetOptions {
  server: UpServer
  stateDir: string
  lock: UpLock
  output: UpOutput
  /** Options of both `mooring agent`. */
  agentArgs: readonly string[]
  demo: boolean
  footer: string
}

export interface UpFleet {
  /** Runs until the signal. Resolves when everything has stopped. */
  run(signal: AbortSignal): Promise<void>
  /** While it stops: ends all children at once. */
  force(): void
}

const AGENTS = ['host-a', 'host-b']
const DEMO_PORT = 8080
const READ_INTERVAL_MS = 500
const REVIVE_INTERVAL_MS = 2_000
/** After this time the demo is inserted even while an agent is missing. */
const AGENTS_WAIT_MS = 15_000
const STOPPING =
  'stopping: the agents with what they run, then the worker, then the server; ' +
  'Ctrl-C again does not wait'

export function createUpFleet({
  server,
  stateDir,
  lock,
  output,
  agentArgs,
  demo,
  footer,
}: UpFleetOptions): UpFleet {
  const env = () => ({ ...process.env, DATABASE_URL: server.url(), MOORING_STATE_DIR: stateDir })
  const child = (name: string, args: string[]) =>
    createUpChild({
      name,
      args,
      env,
      logFile: `${stateDir}/up/${name}.log`,
      onChange: () => {
        changed()
      },
    })
  const worker = child('worker', ['worker', '--state-dir', stateDir])
  const agents = AGENTS.map((name) =>
    child(name, ['agent', '--name', name, '--state-dir', stateDir, ...agentArgs]),
  )
  const children = [worker, ...agents]
  const snapshot: Snapshot = { view: null, problem: null, processes: [] }
  const watcher = createWatcher(server.url)
  let draw = () => {}

  const changed = () => {
    const guard = server.guard()
    const alive = children.flatMap((each) => {
      const { name, pid } = each.view()
      return pid === null ? [] : [{ name, ...markOf(pid) }]
    })
    lock.note({ children: guard ? [...alive, { name: 'guard', ...guard }] : alive })
    draw()
  }

  const refresh = async (stopping: AbortSignal) => {
    try {
      snapshot.view = await watcher.read()
      snapshot.problem = null
      if (demo && !stopping.aborted) await insertDemo(snapshot.view)
    } catch (error) {
      snapshot.problem = problemOf(error).message
      if (isConnectionProblem(error) && !stopping.aborted) await revive()
    }
    draw()
  }

  let triedAt = -Infinity
  const revive = async () => {
    if (performance.now() - triedAt < REVIVE_INTERVAL_MS) return
    triedAt = performance.now()
    const moved = await server.revive().catch((error: unknown) => {
      snapshot.problem = problemOf(error).message
      return false
    })
    // their environment holds the old address
    if (moved) await Promise.all(children.map((each) => each.restart()))
  }

  // Waits until all agents are live. At a cold start the first to register would be the only node
  // for some milliseconds, and get every deployment.
  const giveUpAt = performance.now() + AGENTS_WAIT_MS
  const insertDemo = async ({ nodes }: FleetView) => {
    const live = AGENTS.every((name) =>
      nodes.some(
        (node) => node.node === name && !['LEFT', 'STALE', 'UNKNOWN'].includes(node.health),
      ),
    )
    if (!live && performance.now() < giveUpAt) return
    const port = await freePort('127.0.0.1', DEMO_PORT)
    const inserted = await withDbAt(server.url(), (db) => db.insertDemo(port))
    demo = false
    if (inserted > 0)
      output.note(
        `demo: inserted ${inserted} deployments of http-server@14.1.1; ` +
          `the first, hello, answers at http://127.0.0.1:${port}`,
      )
  }

  return {
    async run(signal) {
      // events of an earlier `up` are not shown as changes
      snapshot.view = await watcher.read()
      for (const each of children) each.start()
      draw = () => {
        output.show(
          { ...snapshot, processes: children.map((each) => each.view()) },
          signal.aborted ? STOPPING : footer,
        )
      }
      const ended = new AbortController()
      const watched = (async () => {
        while (!ended.signal.aborted) {
          await refresh(signal)
          await pause(READ_INTERVAL_MS, undefined, { signal: ended.signal }).catch(() => {})
        }
      })()
      if (!signal.aborted)
        await new Promise((done) => {
          signal.addEventListener('abort', done, { once: true })
        })
      draw()
      await Promise.all(agents.map((agent) => agent.stop()))
      await worker.stop()
      ended.abort()
      await watched
      await refresh(signal)
      await watcher.close()
    },
    force() {
      for (const each of children) each.force()
    },
  }
}
