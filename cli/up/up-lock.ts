/**
 * Who runs `mooring up` in a state directory: one file, which names the process, whether the database server is its to stop, and its children. It answers
 * three questions:
 *   - a second `up`: who runs already?
 *   - an `up` after a SIGKILLed one: which of its children are still ending, and is the server that runs mine to stop?
 *   - the guard of a SIGKILLed one: has somebody taken over?
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { LockHeldError, readLock, takeLock } from '../../host/lock-file.js'
import type { LockFile, LockRecord, ProcessMark } from '../../host/lock-file.js'
import { CommandError } from '../errors.js'

interface UpFields {
  /** The embedded server was started by `mooring up` and ends with it. */
  owns_server: boolean
  children: (ProcessMark & { name: string })[]
}

export type UpRecord = LockRecord & UpFields
/** `inherited`: what a SIGKILLed predecessor left behind. */
export type UpLock = LockFile<UpFields>

export function takeUpLock(stateDir: string): UpLock {
  mkdirSync(stateDir, { recursive: true })
  try {
    const lock = takeLock<UpFields>(upFile(stateDir), { owns_server: false, children: [] })
    if (lock.inherited) lock.note({ owns_server: lock.inherited.owns_server })
    return lock
  } catch (error) {
    throw error instanceof LockHeldError ? runningAlready(stateDir, error.holder) : error
  }
}

export function readUpRecord(stateDir: string): UpRecord | null {
  return readLock<UpFields>(upFile(stateDir))
}

export function upFile(stateDir: string): string {
  return join(stateDir, 'up.json')
}

function runningAlready(stateDir: string, holder: LockRecord): CommandError {
  return new CommandError(
    `\`mooring up\` runs already in ${stateDir}: pid ${holder.pid}, since ${holder.since}`,
    `\`mooring status\` shows it; stop it with Ctrl-C in its terminal or \`kill ${holder.pid}\`, or use another --state-dir`,
  )
}
