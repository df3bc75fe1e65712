/**
 * One child process of `mooring up`: started, restarted with backoff when it dies by itself, stopped in order.
 *
 * It is a session leader of its own, so that Ctrl-C in the terminal reaches `up` alone and the order of stopping is ours;
 * and it holds the reading end of a pipe as stdin, which ends when `up` dies in whatever way (see until-stopped.ts).
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EXIT_USAGE } from '../errors.js'
import type { ProcessView } from './snapshot.js'

export interface ChildSpec {
  name: string
  /** Arguments of `mooring`. */
  args: readonly string[]
  env: () => NodeJS.ProcessEnv
  /** Its stderr; started anew above LOG_LIMIT_BYTES. */
  logFile: string
  onChange: () => void
}

export interface UpChild {
  start(): void
  /** SIGTERM, for good; resolves when it is gone. Idempotent, legal before start. */
  stop(): Promise<void>
  /** The second SIGTERM, which children take as "at once"; SIGKILL when it is still there after FORCE_WAIT_MS. */
  force(): void
  /** Stops it and starts it again with a new environment; nothing when it is not meant to run. */
  restart(): Promise<void>
  view(): ProcessView
  pid(): number | null
}

const FIRST_BACKOFF_MS = 1_000
const LAST_BACKOFF_MS = 30_000
/** A child that lived so long was well: the next backoff begins anew. */
const HEALTHY_AFTER_MS = 60_000
const FORCE_WAIT_MS = 5_000
const LOG_LIMIT_BYTES = 10 * 1024 * 1024
const MAIN = fileURLToPath(new URL('../main.js', import.meta.url))

export function backoffMs(failuresInARow: number): number {
  return Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(failuresInARow - 1, 10))
}

export function spawnMooring(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  logFile: string,
): ChildProcess {
  mkdirSync(dirname(logFile), { recursive: true })
  if (existsSync(logFile) && statSync(logFile).size > LOG_LIMIT_BYTES)
    renameSync(logFile, `${logFile}.1`)
  const log = openSync(logFile, 'a', 0o600)
  try {
    return spawn(process.execPath, [...process.execArgv, MAIN, ...args], {
      detached: true,
      stdio: ['pipe', log, log],
      env,
    })
  } finally {
    closeSync(log)
  }
}

export function createUpChild({ name, args, env, logFile, onChange }: ChildSpec): UpChild {
  let child: ChildProcess | null = null
  let state: ProcessView['state'] = 'starting'
  let note: string | null = null
  let restarts = 0
  let failuresInARow = 0
  let wanted = false
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let gone: Promise<void> = Promise.resolve()

  const become = (next: ProcessView['state'], why: string | null = null) => {
    state = next
    note = why
    onChange()
  }

  const launch = () => {
    const startedAt = performance.now()
    const spawned = spawnMooring([...args, '--stop-on-stdin-end'], env(), logFile)
    child = spawned
    spawned.stdin?.on('error', () => {}) // it closed its end first: `exit` says the rest
    gone = new Promise((resolve) => {
      spawned.once('error', (error) => {
        ended(`could not be started: ${error.message}`, null, startedAt)
        resolve()
      })
      spawned.once('exit', (code, signal) => {
        ended(signal ? `ended by ${signal}` : `exited with ${code}`, code, startedAt)
        resolve()
      })
    })
    if (spawned.pid !== undefined) become('running')
  }

  const ended = (how: string, code: number | null, startedAt: number) => {
    child = null
    if (!wanted) return become('stopped')
    // killed from outside, its last words are about something else
    const words = code === null ? null : lastWords(logFile)
    const why = `${how}${words === null ? '' : `: ${words}`} (log: ${logFile})`
    // what it was started with is wrong: the same again would end the same way
    if (code === EXIT_USAGE) return become('failed', why)
    failuresInARow = performance.now() - startedAt > HEALTHY_AFTER_MS ? 1 : failuresInARow + 1
    const wait = backoffMs(failuresInARow)
    timer = setTimeout(() => {
      restarts += 1
      if (wanted) launch()
    }, wait)
    become('waiting', `${why}; again in ${wait / 1000} s`)
  }

  const stop = async () => {
    wanted = false
    clearTimeout(timer)
    if (child) {
      become('stopping')
      child.kill('SIGTERM')
    } else if (state !== 'stopped') become('stopped')
    await gone
  }

  return {
    start() {
      if (wanted || closed) return
      wanted = true
      launch()
    },
    stop() {
      closed = true
      return stop()
    },
    force() {
      const target = child
      target?.kill('SIGTERM')
      setTimeout(() => {
        target?.kill('SIGKILL')
      }, FORCE_WAIT_MS).unref()
    },
    async restart() {
      if (!wanted) return
      await stop()
      if (closed) return // asked to stop for good meanwhile
      wanted = true
      launch()
    },
    view: () => ({ name, state, pid: child?.pid ?? null, restarts, note }),
    pid: () => child?.pid ?? null,
  }
}

/** The last complaint in a child's log, which is what it died of. */
function lastWords(logFile: string): string | null {
  let file: number
  try {
    file = openSync(logFile, 'r')
  } catch {
    return null
  }
  try {
    const size = fstatSync(file).size
    const buffer = Buffer.alloc(Math.min(size, 8192))
    readSync(file, buffer, 0, buffer.length, size - buffer.length)
    return lastComplaint(buffer.toString('utf8').trim().split('\n'))
  } finally {
    closeSync(file)
  }
}

/** Of a command's own error line, else of a log line that needs a person, else of whatever Node said while it fell. */
export function lastComplaint(lines: readonly string[]): string | null {
  for (const line of lines.toReversed()) {
    if (line.startsWith('error: ')) return line.slice('error: '.length)
    if (/^\w*Error: /.test(line)) return line
    if (!line.startsWith('{')) continue
    try {
      const { level, msg, err } = JSON.parse(line) as {
        level?: string
        msg?: string
        err?: { message?: string }
      }
      if (level === 'error' || level === 'fatal')
        return [msg, err?.message].filter(Boolean).join(': ')
    } catch {
      // the first line may be cut
    }
  }
  return null
}
