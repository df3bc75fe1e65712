/**
 * `mooring up`: database, migration, one worker and two agents as child processes, in one terminal.
 *
 * Who ends what, and how:
 *   Ctrl-C (or SIGTERM, SIGHUP)  agents stop what they run and leave, then the worker, then the server, if it is ours
 *   a second one                 the agents kill at once, nobody is waited for longer than a few seconds
 *   SIGKILL of this process      each child's stdin ends, and it stops as after SIGTERM; the guard stops the server after them
 *   a child dies                 it is started again, with backoff
 *   the embedded server dies     it is started again
 */
import { resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { withDbAt } from './database.js'
import { parseDatabaseUrl } from './database-url.js'
import { isConnectionProblem } from './errors.js'
import { migrateText } from './commands/migrate.js'
import { migrate } from './migrate.js'
import { DEFAULT_STATE_DIR } from './options.js'
import { createUpChild } from './up-child.js'
import type { UpChild } from './up-child.js'
import { isAlive, markOf, takeUpLock } from './up-lock.js'
import type { UpLock } from './up-lock.js'
import { createUpOutput } from './up-output.js'
import type { UpOutput } from './up-output.js'
import { createWatcher, openUpServer, problemText } from './up-server.js'
import type { UpServer, Watcher } from './up-server.js'
import type { Snapshot } from './up-snapshot.js'

export interface UpOptions {
  stateDir: string
  json?: boolean
  demo?: boolean
  trust: string
  allowExec?: boolean
  allowScripts?: boolean
}

const AGENTS = ['host-a', 'host-b']
const LOOK_INTERVAL_MS = 500
const REVIVE_INTERVAL_MS = 2_000
/** Longer than a graceful stop of a predecessor's agents takes. */
const PREDECESSOR_WAIT_MS = 60_000
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export async function runUp(options: UpOptions): Promise<void> {
  const stateDir = resolve(options.stateDir)
  const lock = takeUpLock(stateDir)
  const output = createUpOutput(process.stdout, options.json === true)
  const stopping = new AbortController()
  let force: () => void = () => { process.exit(1) }
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (stopping.signal.aborted) force()
      stopping.abort()
    })
  }
  let server: UpServer | undefined
  try {
    await waitForPredecessor(lock, output, stopping.signal)
    server = await openUpServer(stateDir, lock, output.note)
    output.note(`database: ${server.description()}`)
    if (!stopping.signal.aborted) await prepare(server.url(), options, output, stopping.signal)
    if (!stopping.signal.aborted) {
      const fleet = createFleet(server, stateDir, options, lock)
      force = fleet.force
      output.note(psqlLine(options.stateDir))
      await fleet.run(output, stopping.signal)
    }
  } catch (error) {
    if (!stopping.signal.aborted) throw error
  } finally {
    await server?.stop()
    lock.release()
    output.close()
  }
  output.note(`stopped; the data stays, and \`${programName()} up\` goes on with it`)
}

/** A SIGKILLed `up` leaves children that stop by themselves; their names are free only then. */
async function waitForPredecessor(lock: UpLock, output: UpOutput, signal: AbortSignal): Promise<void> {
  const left = () => (lock.inherited?.children ?? []).filter(isAlive)
  if (left().length === 0) return
  output.note(`the last \`mooring up\` was killed; waiting for its processes to stop: ${left().map((child) => `${child.name} (pid ${child.pid})`).join(', ')}`)
  const deadline = performance.now() + PREDECESSOR_WAIT_MS
  while (left().length > 0 && performance.now() < deadline && !signal.aborted) await pause(100)
}

async function prepare(databaseUrl: string, options: UpOptions, output: UpOutput, signal: AbortSignal): Promise<void> {
  const result = await migrate({ databaseUrl, log: output.note, signal })
  output.note(migrateText(result, parseDatabaseUrl(databaseUrl).database))
  if (!options.demo) return
  const inserted = await withDbAt(databaseUrl, (db) => db.insertDemo())
  if (inserted > 0) output.note(`demo: inserted ${inserted} deployments of http-server@14.1.1`)
}

interface Fleet {
  /** Until the signal, and then until everything has stopped. */
  run(output: UpOutput, signal: AbortSignal): Promise<void>
  force(): void
}

function createFleet(server: UpServer, stateDir: string, options: UpOptions, lock: UpLock): Fleet {
  const env = () => ({ ...process.env, DATABASE_URL: server.url(), MOORING_STATE_DIR: stateDir })
  const child = (name: string, args: string[]) => createUpChild({ name, args, env, logFile: `${stateDir}/up/${name}.log`, onChange: () => { changed() } })
  const worker = child('worker', ['worker', '--state-dir', stateDir])
  const agents = AGENTS.map((name) => child(name, [
    'agent', '--name', name, '--trust', options.trust, '--state-dir', stateDir,
    ...(options.allowExec ? ['--allow-exec'] : []), ...(options.allowScripts ? ['--allow-scripts'] : []),
  ]))
  const children = [worker, ...agents]
  const snapshot: Snapshot = { view: null, problem: null, processes: [] }
  let draw = () => {}

  const changed = () => {
    const guard = server.guard()
    lock.note({
      children: [
        ...children.flatMap((each) => { const pid = each.pid(); return pid === null ? [] : [{ name: each.view().name, ...markOf(pid) }] }),
        ...(guard ? [{ name: 'guard', ...guard }] : []),
      ],
    })
    draw()
  }

  return {
    async run(output, signal) {
      const footer = () => signal.aborted
        ? 'stopping: agents with what they run, then the worker, then the server; Ctrl-C again does not wait'
        : `${psqlLine(options.stateDir)}; Ctrl-C stops everything, the data stays`
      draw = () => { output.show({ ...snapshot, processes: children.map((each) => each.view()) }, footer()) }
      const watcher = createWatcher(server.url)
      // what happened in an earlier life is not shown as news
      snapshot.view = await watcher.look()
      for (const each of children) each.start()
      const watching = new AbortController()
      const watched = watch(watcher, snapshot, server, children, () => { draw() }, watching.signal)
      if (!signal.aborted) await new Promise((done) => { signal.addEventListener('abort', done, { once: true }) })
      draw()
      await Promise.all(agents.map((agent) => agent.stop()))
      await worker.stop()
      watching.abort()
      await watched
      await watcher.close()
      draw()
    },
    force() {
      for (const each of children) each.force()
    },
  }
}

async function watch(
  watcher: Watcher, snapshot: Snapshot, server: UpServer, children: readonly UpChild[], draw: () => void, signal: AbortSignal,
): Promise<void> {
  let triedAt = -Infinity
  while (!signal.aborted) {
    try {
      snapshot.view = await watcher.look()
      snapshot.problem = null
    } catch (error) {
      snapshot.problem = problemText(error)
      if (isConnectionProblem(error) && performance.now() - triedAt > REVIVE_INTERVAL_MS) {
        triedAt = performance.now()
        const moved = await server.revive().catch((failure: unknown) => { snapshot.problem = problemText(failure); return false })
        // they hold the old address in their environment
        if (moved) await Promise.all(children.map((each) => each.restart()))
      }
    }
    draw()
    await pause(LOOK_INTERVAL_MS, undefined, { signal }).catch(() => {})
  }
}

/** How the reader of this terminal calls the program in another one. */
export function programName(env: NodeJS.ProcessEnv = process.env, script = process.argv[1] ?? ''): string {
  return env['npm_execpath'] || env['npm_command'] || script.endsWith('.js') ? 'npx mooring' : 'mooring'
}

function psqlLine(stateDir: string): string {
  const where = process.env['DATABASE_URL'] ? ' (with the same DATABASE_URL)' : stateDir === DEFAULT_STATE_DIR ? '' : ` --state-dir ${stateDir}`
  return `psql beside it: ${programName()} psql${where}`
}
