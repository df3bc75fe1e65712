/**
 * A file that says who holds something: made atomically with its content (a link of a finished file), taken over from a holder that is dead.
 * A process is known by pid and start time, so that a number given out again is nobody.
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
  /** What a holder that died without releasing wrote; null after an orderly end. */
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

/** Throws LockHeldError while a living process holds it. */
export function takeLock<Fields extends object>(file: string, fields: Fields): LockFile<Fields> {
  let record: LockRecord & Fields = {
    ...markOf(process.pid),
    since: new Date().toISOString(),
    ...fields,
  }
  let inherited: (LockRecord & Fields) | null = null
  while (!create(file, record)) {
    const holder = readLock<Fields>(file)
    if (holder && isAlive(holder)) throw new LockHeldError(file, holder)
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

/** Null when nobody holds it: also where the file makes no sense, as a machine that lost power may leave it. A living holder's is always whole. */
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

/** Moves a dead holder's file away. Two may do so at once: who moved a living one's file instead puts it back. */
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
      // somebody else has made a new one meanwhile; the owner of this one sees it at its next note
    }
  }
  rmSync(aside, { force: true })
  return moved?.pid === judged?.pid ? moved : null
}

/** In clock ticks after boot; null for what has ended, and where the system does not tell. */
function startTime(pid: number): string | null {
  const startTicks = readProcess(pid)?.startTicks
  return startTicks === undefined ? null : String(startTicks)
}
