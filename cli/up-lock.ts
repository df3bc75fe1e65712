/**
 * Who runs `mooring up` in a state directory: one file, made atomically with its content (a link of a finished file),
 * which names the process, whether the database server is its to stop, and its children. It answers three questions:
 *   - a second `up`: who runs already?
 *   - an `up` after a SIGKILLed one: which of its children are still ending, and is the server that runs mine to stop?
 *   - the guard of a SIGKILLed one: has somebody taken over?
 * A process is known by pid and start time, so that a recycled pid is nobody.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandError } from './errors.js'

export interface ProcessMark { pid: number; started_at: string | null }

export interface UpRecord extends ProcessMark {
  since: string
  /** The embedded server was started by `mooring up` and ends with it. */
  owns_server: boolean
  children: (ProcessMark & { name: string })[]
}

export interface UpLock {
  /** What a SIGKILLed predecessor left behind; null after an orderly end. */
  readonly inherited: UpRecord | null
  note(change: Partial<Pick<UpRecord, 'owns_server' | 'children'>>): void
  release(): void
}

export function markOf(pid: number): ProcessMark {
  return { pid, started_at: startTime(pid) }
}

export function isAlive(mark: ProcessMark): boolean {
  try {
    process.kill(mark.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  const now = startTime(mark.pid)
  return now === null ? process.platform !== 'linux' : now === (mark.started_at ?? now)
}

export function takeUpLock(stateDir: string): UpLock {
  mkdirSync(stateDir, { recursive: true })
  const file = upFile(stateDir)
  let record: UpRecord = { ...markOf(process.pid), since: new Date().toISOString(), owns_server: false, children: [] }
  let inherited: UpRecord | null = null
  while (!create(file, record)) {
    const holder = readUpRecord(stateDir)
    if (holder === null) continue // released in between
    if (isAlive(holder)) throw runningAlready(stateDir, holder)
    inherited = setAside(file, holder) ?? inherited
  }
  if (inherited) {
    record = { ...record, owns_server: inherited.owns_server }
    write(file, record)
  }
  return {
    inherited,
    note(change) {
      record = { ...record, ...change }
      write(file, record)
    },
    release() {
      if (readUpRecord(stateDir)?.pid === process.pid) rmSync(file, { force: true })
    },
  }
}

export function readUpRecord(stateDir: string): UpRecord | null {
  try {
    return JSON.parse(readFileSync(upFile(stateDir), 'utf8')) as UpRecord
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new CommandError(`${upFile(stateDir)} cannot be read: ${error instanceof Error ? error.message : String(error)}`, 'when no `mooring up` runs there, delete it')
  }
}

export function upFile(stateDir: string): string {
  return join(stateDir, 'up.json')
}

function runningAlready(stateDir: string, holder: UpRecord): CommandError {
  return new CommandError(
    `\`mooring up\` runs already in ${stateDir}: pid ${holder.pid}, since ${holder.since}`,
    `\`mooring status\` shows it; stop it with Ctrl-C in its terminal or \`kill ${holder.pid}\`, or use another --state-dir`,
  )
}

function create(file: string, record: UpRecord): boolean {
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, JSON.stringify(record), { mode: 0o600 })
  try {
    linkSync(draft, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(draft, { force: true })
  }
}

function write(file: string, record: UpRecord): void {
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, JSON.stringify(record), { mode: 0o600 })
  renameSync(draft, file)
}

/** Moves a dead holder's file away. Two may do so at once: who moved a living one's file instead puts it back. */
function setAside(file: string, judged: UpRecord): UpRecord | null {
  const aside = `${file}.stale-${process.pid}`
  try {
    renameSync(file, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  const moved = JSON.parse(readFileSync(aside, 'utf8')) as UpRecord
  if (moved.pid !== judged.pid || moved.since !== judged.since) {
    try {
      linkSync(aside, file)
    } catch {
      // somebody else has made a new one meanwhile; the owner of this one sees it at its next note
    }
  }
  rmSync(aside, { force: true })
  return moved.pid === judged.pid ? moved : null
}

function startTime(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}
