/** One start of an assignment: its process tree together with what is kept beside it on disk while it runs (run file, log, work folder). */
import { closeSync, mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { OwnedAssignment } from './db.js'
import type { Launch } from './drivers/launch.js'
import type { LogKeeper } from './log-rotation.js'
import { newMark, removeRunFile, writeRunFile } from './run-file.js'
import { start } from './spawn.js'
import type { Exit } from './spawn.js'
import { stopTree } from './stop-tree.js'
import type { Stop } from './stop-tree.js'
import { workloadEnv } from './workload-env.js'

export interface Copy {
  readonly assignment: OwnedAssignment
  /** Null when it could not be started; `exit` says why. */
  readonly pid: number | null
  /** Of the leader. Never rejects. */
  readonly exit: Promise<Exit>
  readonly startedAtMs: number
  end(graceMs: number): Stop
  /** To be called when nothing of the tree is alive. */
  release(): void
}

export interface CopyDependencies {
  node: string
  /** A copy: asking process.env for each of its names costs a tenth of a start. */
  agentEnv: Readonly<Record<string, string | undefined>>
  stateDir: string
  markPrefix: string
  bootId: string | null
  logs: LogKeeper
  log: Logger
}

/** The process runs when this returns. Throws only where its work folder cannot be made. */
export function startCopy(assignment: OwnedAssignment, launch: Launch, deps: CopyDependencies): Copy {
  const { stateDir, logs, log } = deps
  const { assignment_id, epoch, generation } = assignment
  const cwd = launch.cwd ?? workDirOf(stateDir, assignment_id)
  if (launch.cwd === null) makeFolder(cwd)

  const mark = newMark(deps.markPrefix)
  const logFd = logs.open(assignment_id)
  const handle = start({ argv: launch.argv, cwd, env: workloadEnv(deps.agentEnv, deps.node, assignment, launch.binDir), logFd, mark })
  const startedAtMs = performance.now()
  if (logFd !== null) closeSync(logFd)
  // On the next turn: what else is to be started now does not wait for a disk. Until then, and where it cannot be written, the mark finds the process.
  const note = handle.pid === null ? undefined : setImmediate((pid: number) => {
    try {
      writeRunFile(stateDir, { assignment_id, epoch, generation, pid, start_ticks: handle.startTicks, boot_id: deps.bootId, mark })
    } catch (error) {
      log.warn({ event: 'run_file_failed', code: (error as NodeJS.ErrnoException).code }, 'run file not written')
    }
  }, handle.pid)
  return {
    assignment,
    pid: handle.pid,
    exit: handle.exit,
    startedAtMs,
    end: graceMs => stopTree(handle, graceMs, log),
    release() {
      clearImmediate(note)
      logs.release(assignment_id)
      try {
        removeRunFile(stateDir, assignment_id)
      } catch {
        // Harmless: pid and start time in it fit no process any more.
      }
    },
  }
}

/** What a workload left there is not ours to delete; an empty folder is. */
export function removeEmptyWorkDir(stateDir: string, assignmentId: string): void {
  try {
    rmdirSync(workDirOf(stateDir, assignmentId))
  } catch {
    // not empty, or never made
  }
}

/** Its parent is there: half the time of a recursive mkdir. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function workDirOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'work', assignmentId)
}
