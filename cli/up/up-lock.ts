/**
 * The lock file of `mooring up` in a state directory. It names the process, its children, and
 * whether the process owns the database server. Its readers:
 *   - a second `up`: is one running already?
 *   - an `up` after a killed one: which children are still ending, does it inherit the server?
 *   - the guard of a killed one: has another `up` taken over?
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { LockHeldError, readLock, takeLock } from '../../host/lock-file.js'
import { requireOwnFolder } from '../../host/users.js'
import type { LockFile, LockRecord, ProcessMark } from '../../host/lock-file.js'
import { CommandError } from '../errors.js'

interface UpFields {
  /** `mooring up` started the embedded server and ends it. */
  owns_server: boolean
  children: (ProcessMark & { name: string })[]
}

export type UpRecord = LockRecord & UpFields
/** `inherited` is the record of a killed predecessor. */
export type UpLock = LockFile<UpFields>

export function takeUpLock(stateDir: string): UpLock {
  mkdirSync(stateDir, { recursive: true })
  requireOwnFolder(stateDir)
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
    '`mooring status` shows it; stop it with Ctrl-C in its terminal or ' +
      `\`kill ${holder.pid}\`, or use another --state-dir`,
  )
}
