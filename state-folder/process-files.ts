/**
 * `runs/<assignment_id>.json`: one small file per running process. With it the next life of the
 * agent, or a person, finds what was left running. The pid stands beside start time and boot, so a
 * reused pid is never mistaken for it. The run id finds the rest of the tree, even without a file.
 */
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface ProcessFile {
  assignment_id: string
  epoch: string
  generation: string
  pid: number
  start_ticks: number | null
  boot_id: string | null
  /** Value of MOORING_RUN. */
  run_id: string
}

/**
 * The prefix of every run id of the agent that has this state folder.
 * Different folders, also on different file systems, have different prefixes.
 */
export function runIdPrefix(stateDir: string): string {
  const { dev, ino } = statSync(stateDir)
  return `${createHash('sha256')
    .update(`${realpathSync(stateDir)}\0${dev}\0${ino}`)
    .digest('hex')
    .slice(0, 16)}.`
}

/**
 * In the environment of every workload: the control plane and the node it runs for. So the next
 * agent of the node finds what an agent with another state folder has left.
 */
export const OWNER_VARIABLE = 'MOORING_OWNER'

export function ownerMark(controlPlane: string, node: string): string {
  return `${controlPlane}.${node}`
}

export function newRunId(prefix: string): string {
  return prefix + randomUUID()
}

/** Null where the system has no boot id. */
export function readBootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return null
  }
}

export function writeProcessFile(stateDir: string, file: ProcessFile): void {
  writeFileSync(pathOf(stateDir, file.assignment_id), JSON.stringify(file), { mode: 0o600 })
}

export function removeProcessFile(stateDir: string, assignmentId: string): void {
  rmSync(pathOf(stateDir, assignmentId), { force: true })
}

/** Also removes unreadable files. */
export function removeProcessFilesExcept(stateDir: string, kept: readonly ProcessFile[]): void {
  const names = kept.map((file) => `${file.assignment_id}.json`)
  for (const name of readdirSync(join(stateDir, 'runs')))
    if (!names.includes(name))
      rmSync(join(stateDir, 'runs', name), { recursive: true, force: true })
}

/** Skips files cut short by a crash. The prefix of the run ids still finds their processes. */
export function readProcessFiles(stateDir: string): ProcessFile[] {
  const folder = join(stateDir, 'runs')
  return readdirSync(folder).flatMap((name) => {
    try {
      const file: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'))
      return isProcessFile(file) ? [file] : []
    } catch {
      return []
    }
  })
}

function pathOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'runs', `${assignmentId}.json`)
}

function isProcessFile(value: unknown): value is ProcessFile {
  if (typeof value !== 'object' || value === null) return false
  const file = value as Partial<Record<keyof ProcessFile, unknown>>
  return (
    typeof file.assignment_id === 'string' &&
    typeof file.pid === 'number' &&
    file.pid > 1 &&
    typeof file.run_id === 'string' &&
    file.run_id !== ''
  )
}
