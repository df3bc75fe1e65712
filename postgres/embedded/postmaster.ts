import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, readlinkSync, realpathSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/**
 * The state of a data folder's server. `pg_ctl status` believes a lock file whose pid was recycled
 * or is a zombie. So the process itself is examined, and a connection is made.
 */
export type ServerState =
  | { is: 'ready'; pid: number; port: number }
  /** Starting, stopping, or its backends are still ending after the postmaster was killed. */
  | { is: 'changing'; pid: number }
  | { is: 'absent' }

export async function serverState(dataDir: string): Promise<ServerState> {
  const lockFile = join(dataDir, 'postmaster.pid')
  const lock = readOrUndefined(lockFile)
  if (lock === undefined) return { is: 'absent' }
  const lines = lock.split('\n')
  const pid = Number(lines[0])
  if (!isServerOf(pid, dataDir)) {
    // the lock file names the shared memory of the backends: it stays while any of them lives
    if (processesOfServer(dataDir).length > 0) return { is: 'changing', pid }
    if (readOrUndefined(lockFile) === lock) rmSync(lockFile, { force: true })
    return { is: 'absent' }
  }
  const port = Number(lines[3])
  if (!lines[7]?.startsWith('ready') || !(await answers(port))) return { is: 'changing', pid }
  return { is: 'ready', pid, port }
}

/** The pid in its lock file. Throws where there is none. */
export function postmasterPid(dataDir: string): number {
  return Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0])
}

/**
 * Fast shutdown: ends the sessions and writes a checkpoint. Resolves when the server is gone, with
 * false when there was none.
 */
export async function stopServer(dataDir: string, timeoutMs = 30_000): Promise<boolean> {
  const first = await serverState(dataDir)
  if (first.is === 'absent') return false
  const deadline = performance.now() + timeoutMs
  let signalled = false
  for (;;) {
    const state = await serverState(dataDir)
    if (state.is === 'absent') return true
    if (!signalled) signalled = signal(state.pid, dataDir, 'SIGINT')
    if (performance.now() > deadline) {
      signal(state.pid, dataDir, 'SIGQUIT') // immediate: crash recovery at the next start
      if (performance.now() > deadline + 5_000)
        throw new Error(`the server in ${dataDir} (pid ${state.pid}) does not stop`)
    }
    await pause(20)
  }
}

function signal(pid: number, dataDir: string, name: NodeJS.Signals): boolean {
  if (!isServerOf(pid, dataDir)) return false
  try {
    return process.kill(pid, name)
  } catch {
    return false // ended in between
  }
}

/** A postmaster's working directory is its data folder. A recycled pid has another one. */
function isServerOf(pid: number, dataDir: string): boolean {
  if (!Number.isInteger(pid) || pid <= 1) return false
  if (process.platform === 'linux') return cwdOf(pid) === realpathSync(dataDir) && !isZombie(pid)
  try {
    const row = execFileSync('ps', ['-o', 'stat=,command=', '-p', String(pid)], {
      encoding: 'utf8',
    })
    return !row.startsWith('Z') && row.includes(dataDir)
  } catch {
    return false
  }
}

/** The postmaster and its backends: the processes whose working directory is the data folder. */
export function processesOfServer(dataDir: string): number[] {
  if (process.platform !== 'linux') return []
  const real = realpathSync(dataDir)
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && cwdOf(pid) === real && !isZombie(pid))
}

function cwdOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return undefined // gone, a zombie, or another user's
  }
}

function isZombie(pid: number): boolean {
  const stat = readOrUndefined(`/proc/${pid}/stat`)
  return stat === undefined || stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')
}

function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    const done = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket
      .once('connect', () => done(true))
      .once('error', () => done(false))
      .setTimeout(1_000, () => done(false))
  })
}
