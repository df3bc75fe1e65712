/**
 * One child process of `mooring up`: worker, agent or guard. host/restarted-child.ts restarts and
 * stops it. This file knows its command line, its log, and what the log says about its end.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess as Spawned } from 'node:child_process'
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
import { createRestartedChild } from '../../host/restarted-child.js'
import type { RestartedChild } from '../../host/restarted-child.js'
import { EXIT_USAGE } from '../errors.js'
import type { ProcessView } from './snapshot.js'

export interface ChildSpec {
  name: string
  /** Arguments of `mooring`. */
  args: readonly string[]
  env: () => NodeJS.ProcessEnv
  /** The file of its stdout and stderr. Above LOG_LIMIT_BYTES a start begins a new file. */
  logFile: string
  onChange: () => void
}

export interface UpChild extends Omit<RestartedChild, 'state'> {
  view(): ProcessView
}

/** The waits between restarts: 1, 2, 4, 8, 16, 30, 30 s. A life of a minute resets them. */
export const RESTART_WAITS = {
  firstBackoffMs: 1_000,
  maxBackoffMs: 30_000,
  stableMs: 60_000,
  killAfterMs: 5_000,
}
const LOG_LIMIT_BYTES = 10 * 1024 * 1024
const MAIN = fileURLToPath(new URL('../main.js', import.meta.url))

export function spawnMooring(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  logFile: string,
): Spawned {
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
  const { state, ...child } = createRestartedChild({
    ...RESTART_WAITS,
    spawn: () => spawnMooring([...args, '--stop-on-stdin-end'], env(), logFile),
    explain({ how, exitCode }) {
      // after a signal from outside, the last complaint in the log is about something else
      const complaint = exitCode === null ? null : lastComplaintIn(logFile)
      return `${how}${complaint === null ? '' : `: ${complaint}`} (log: ${logFile})`
    },
    // its command line or environment is wrong, and a restart would not change them
    isFinal: ({ exitCode }) => exitCode === EXIT_USAGE,
    onChange,
  })
  return { ...child, view: () => ({ name, ...state() }) }
}

/** The last complaint in a child's log is the reason of its end. */
function lastComplaintIn(logFile: string): string | null {
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

/** The error line of a command, a log line of level error, or the message of a Node exception. */
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
