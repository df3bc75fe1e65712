/**
 * `mooring up`: database, migration, one worker and two agents as child processes, in one terminal.
 *
 *   Ctrl-C, SIGTERM or SIGHUP  the agents stop what they run and leave; then the worker stops; then
 *                              the server, if `up` owns it
 *   a second one               the agents kill at once; after 5 s `up` kills its children
 *   SIGKILL of this process    each child's stdin ends, and it stops as after SIGTERM; then the
 *                              guard stops the server
 *   a child dies               `up` restarts it with a back-off
 *   the embedded server dies   `up` restarts it
 */
import { resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseDatabaseUrl } from '../../postgres/database-url.js'
import { migrateText } from '../terminal/migrate-text.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { localUser } from '../local-user.js'
import { LOCAL_STATE_FOLDER } from '../../state-folder/default-folder.js'
import { onStopSignal } from '../signals.js'
import { createUpFleet } from './fleet.js'
import { isAlive } from '../../host/lock-file.js'
import { takeUpLock } from './up-lock.js'
import type { UpLock } from './up-lock.js'
import { createUpOutput } from './output.js'
import type { UpOutput } from './output.js'
import { openUpServer } from './server.js'
import type { UpServer } from './server.js'

export interface UpOptions {
  stateDir: string
  json?: boolean
  demo?: boolean
  trust: string
  allowExec?: boolean
  allowScripts?: boolean
}

/** Longer than the graceful stop of a predecessor's agents. */
const PREDECESSOR_WAIT_MS = 60_000

export async function runUp(options: UpOptions): Promise<void> {
  const stateDir = resolve(options.stateDir)
  const lock = takeUpLock(stateDir)
  const output = createUpOutput(process.stdout, options.json === true)
  const stopping = new AbortController()
  let force: () => void = () => {
    process.exit(1)
  }
  onStopSignal(
    () => {
      stopping.abort()
    },
    () => {
      force()
    },
  )
  let server: UpServer | undefined
  try {
    await waitForPredecessor(lock, output, stopping.signal)
    server = await openUpServer(stateDir, lock, output.note)
    output.note(`database: ${server.description()}`)
    if (!stopping.signal.aborted) await prepare(server.url(), output, stopping.signal)
    if (!stopping.signal.aborted) {
      const psql = psqlLine(options.stateDir)
      output.note(psql)
      const fleet = createUpFleet({
        server,
        stateDir,
        lock,
        output,
        agentArgs: [...agentArgs(options), ...userArgs(stateDir, output.note)],
        demo: options.demo === true,
        footer: `${psql}; Ctrl-C stops everything, the data stays`,
      })
      force = fleet.force
      await fleet.run(stopping.signal)
    }
  } catch (error) {
    if (!stopping.signal.aborted) throw error
  } finally {
    await server?.stop()
    lock.release()
    output.close()
  }
  output.note(`stopped; the data stays, and \`${programName()} up\` continues with it`)
}

/** The children of a killed `up` stop by themselves. Until then they hold their names. */
async function waitForPredecessor(
  lock: UpLock,
  output: UpOutput,
  signal: AbortSignal,
): Promise<void> {
  const left = () => (lock.inherited?.children ?? []).filter(isAlive)
  const names = left().map((child) => `${child.name} (pid ${child.pid})`)
  if (names.length === 0) return
  output.note(
    `the last \`mooring up\` was killed; waiting for its processes to stop: ${names.join(', ')}`,
  )
  const deadline = performance.now() + PREDECESSOR_WAIT_MS
  while (left().length > 0 && performance.now() < deadline && !signal.aborted) await pause(100)
}

async function prepare(databaseUrl: string, output: UpOutput, signal: AbortSignal): Promise<void> {
  const result = await migrate({ databaseUrl, log: output.note, signal })
  output.note(migrateText(result, parseDatabaseUrl(databaseUrl).database))
}

function agentArgs({ trust, allowExec, allowScripts }: UpOptions): string[] {
  return [
    '--trust',
    trust,
    ...(allowExec ? ['--allow-exec'] : []),
    ...(allowScripts ? ['--allow-scripts'] : []),
  ]
}

function userArgs(stateDir: string, note: (text: string) => void): string[] {
  const { user, warning } = localUser(stateDir)
  if (warning !== null) note(warning)
  return user === null ? [] : ['--workload-user', user]
}

/** How to call the program in another terminal: directly, or with npx. */
export function programName(
  env: NodeJS.ProcessEnv = process.env,
  script = process.argv[1] ?? '',
): string {
  return env['npm_execpath'] || env['npm_command'] || script.endsWith('.js')
    ? 'npx mooring'
    : 'mooring'
}

function psqlLine(stateDir: string): string {
  const where = process.env['DATABASE_URL']
    ? ' (with the same DATABASE_URL)'
    : stateDir === LOCAL_STATE_FOLDER
      ? ''
      : ` --state-dir ${stateDir}`
  return `psql beside it: ${programName()} psql${where}`
}
