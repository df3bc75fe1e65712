/**
 * One small file per running process, `runs/<assignment_id>.json`: how the next life of this agent, or a person, finds what was left running.
 *
 * The pid comes with the start time and the boot, so that a number given out again is never mistaken for it. The mark finds the rest of the tree.
 * Marks of one agent share a prefix made from its state folder itself, so what runs under it is found even where no file could be written.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface RunFile {
  assignment_id: string
  epoch: string
  generation: string
  pid: number
  start_ticks: number | null
  boot_id: string | null
  mark: string
}

/** Shared by every mark of the agent whose state folder this is; two folders, or two file systems, never give the same. */
export function markPrefix(stateDir: string): string {
  const { dev, ino } = statSync(stateDir)
  return `${createHash('sha256')
    .update(`${realpathSync(stateDir)}\0${dev}\0${ino}`)
    .digest('hex')
    .slice(0, 16)}.`
}

export function newMark(prefix: string): string {
  return prefix + randomUUID()
}

/** Null where the system has none to tell. */
export function readBootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return null
  }
}

export function writeRunFile(stateDir: string, run: RunFile): void {
  writeFileSync(pathOf(stateDir, run.assignment_id), JSON.stringify(run), { mode: 0o600 })
}

export function removeRunFile(stateDir: string, assignmentId: string): void {
  rmSync(pathOf(stateDir, assignmentId), { force: true })
}

/** What cannot be read goes too. */
export function removeRunFilesBut(stateDir: string, kept: readonly RunFile[]): void {
  const names = kept.map((run) => `${run.assignment_id}.json`)
  for (const name of readdirSync(join(stateDir, 'runs')))
    if (!names.includes(name))
      rmSync(join(stateDir, 'runs', name), { recursive: true, force: true })
}

/** Files cut short by a crash are left out: the mark's prefix still finds their processes. */
export function readRunFiles(stateDir: string): RunFile[] {
  const folder = join(stateDir, 'runs')
  return readdirSync(folder).flatMap((name) => {
    try {
      const run: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'))
      return isRunFile(run) ? [run] : []
    } catch {
      return []
    }
  })
}

function pathOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'runs', `${assignmentId}.json`)
}

function isRunFile(value: unknown): value is RunFile {
  if (typeof value !== 'object' || value === null) return false
  const run = value as Partial<Record<keyof RunFile, unknown>>
  return (
    typeof run.assignment_id === 'string' &&
    typeof run.pid === 'number' &&
    run.pid > 1 &&
    typeof run.mark === 'string' &&
    run.mark !== ''
  )
}
