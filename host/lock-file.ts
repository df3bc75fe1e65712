/**
 * A file that names the process that holds a resource. It appears atomically with its content,
 * because it is a link to a finished file. The lock of a dead holder is taken over.
 * A holder is identified by pid and start time, because the kernel reuses pids.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { readProcess } from './process-table.js'

export interface ProcessMark {
  pid: number
  started_at: string | null
}

export interface LockRecord extends ProcessMark {
  since: string
}

export interface LockFile<Fields extends object> {
  /** The record of a holder that died without releasing; null after an orderly end. */
  readonly inherited: (LockRecord & Fields) | null
  note(change: Partial<Fields>): void
  release(): void
}

export class LockHeldError extends Error {
  readonly holder: LockRecord

  constructor(file: string, holder: LockRecord) {
    super(`${file} is held by pid ${holder.pid} since ${holder.since}`)
    this.name = 'LockHeldError'
    this.holder = holder
  }
}

/**
 * Throws LockHeldError while a living process holds the file. `isOfThisFile` is false for a record
 * that was copied here: its process holds the original.
 */
export function takeLock<Fields extends object>(
  file: string,
  fields: Fields,
  isOfThisFile: (record: LockRecord & Fields) => boolean = () => true,
): LockFile<Fields> {
  let record: LockRecord & Fields = {
    ...markOf(process.pid),
    since: new Date().toISOString(),
    ...fields,
  }
  let inherited: (LockRecord & Fields) | null = null
  while (!create(file, record)) {
    const holder = readLock<Fields>(file)
    if (holder && isOfThisFile(holder) && isAlive(holder)) throw new LockHeldError(file, holder)
    inherited = setAside(file, holder) ?? inherited
  }
  return {
    inherited,
    note(change) {
      record = { ...record, ...change }
      write(file, record)
    },
    release() {
      if (readLock(file)?.pid === process.pid) rmSync(file, { force: true })
    },
  }
}

/**
 * Null when no process holds the file, and when its content is broken, as after a power failure.
 * The file of a living holder is always complete.
 */
export function readLock<Fields extends object>(file: string): (LockRecord & Fields) | null {
  try {
    return parse<Fields>(readFileSync(file, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

function parse<Fields extends object>(text: string): (LockRecord & Fields) | null {
  try {
    const record = JSON.parse(text) as (LockRecord & Fields) | null
    return typeof record?.pid === 'number' ? record : null
  } catch {
    return null
  }
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

function create(file: string, record: LockRecord): boolean {
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

function write(file: string, record: LockRecord): void {
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, JSON.stringify(record), { mode: 0o600 })
  renameSync(draft, file)
}

/**
 * Moves the file of a dead holder away. Two processes may do so at once.
 * The one that moves the file of a living holder puts it back.
 */
function setAside<Fields extends object>(
  file: string,
  judged: LockRecord | null,
): (LockRecord & Fields) | null {
  const aside = `${file}.stale-${process.pid}`
  try {
    renameSync(file, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  const moved = parse<Fields>(readFileSync(aside, 'utf8'))
  if (moved?.pid !== judged?.pid || moved?.since !== judged?.since) {
    try {
      linkSync(aside, file)
    } catch {
      // another process has made a new file; the owner of this one finds out at its next note
    }
  }
  rmSync(aside, { force: true })
  return moved?.pid === judged?.pid ? moved : null
}

/** In clock ticks after boot; null for an ended process, and without /proc. */
function startTime(pid: number): string | null {
  const startTicks = readProcess(pid)?.startTicks
  return startTicks === undefined ? null : String(startTicks)
}
