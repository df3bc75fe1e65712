/** One start of an assignment: its process tree together with what is kept beside it on disk while it runs (run file, log, work folder). */
import { mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { OwnedAssignment } from '../rows.js'
import type { Launch } from '../packages/launch.js'
import type { LogRotation } from '../../state-folder/log-rotation.js'
import { isFenced } from '../session/lease.js'
import { newRunId, removeProcessFile, writeProcessFile } from '../../state-folder/process-files.js'
import type { ProcessRunner, ManagedProcess } from '../warden/process-runner.js'
import { workloadEnv } from './environment.js'

export interface Copy {
  readonly process: ManagedProcess
  /** To be called when nothing of the tree is alive. */
  release(): void
}

export interface CopyDependencies {
  node: string
  /** A copy: asking process.env for each of its names costs a tenth of a start. */
  agentEnv: Readonly<Record<string, string | undefined>>
  stateDir: string
  host: ProcessRunner
  /** Of everything that host starts for us. */
  runIdPrefix: string
  bootId: string | null
  logs: LogRotation
  log: Logger
}

/** Asks for the process. Throws only where its work folder cannot be made. */
export function startCopy(
  assignment: OwnedAssignment,
  launch: Launch,
  restarts: number,
  deps: CopyDependencies,
): Copy {
  const { assignment_id, epoch, generation, stop_grace_ms } = assignment
  const cwd = launch.cwd ?? workDirOf(deps.stateDir, assignment_id)
  if (launch.cwd === null) makeFolder(cwd)
  return keepBeside(
    deps.host.start({
      argv: launch.argv,
      cwd,
      env: workloadEnv(deps.agentEnv, deps.node, assignment, launch.binDir),
      logFile: deps.logs.keep(assignment_id),
      runId: newRunId(deps.runIdPrefix),
      about: {
        assignment_id,
        epoch,
        generation,
        stop_grace_ms,
        leased: isFenced(assignment),
        restarts,
      },
    }),
    deps,
  )
}

/** One that an earlier agent started. */
export function adoptCopy(process: ManagedProcess, deps: CopyDependencies): Copy {
  deps.logs.keep(process.about.assignment_id)
  return keepBeside(process, deps)
}

function keepBeside(
  process: ManagedProcess,
  { stateDir, bootId, logs, log }: CopyDependencies,
): Copy {
  const {
    runId,
    about: { assignment_id, epoch, generation },
  } = process
  let released = false
  // Until it is written, and where it cannot be, the mark finds the process.
  void process.started.then((started) => {
    if (started === null || released) return
    try {
      writeProcessFile(stateDir, {
        assignment_id,
        epoch,
        generation,
        pid: started.pid,
        start_ticks: started.startTicks,
        boot_id: bootId,
        run_id: runId,
      })
    } catch (error) {
      log.warn(
        { event: 'run_file_failed', code: (error as NodeJS.ErrnoException).code },
        'run file not written',
      )
    }
  })
  return {
    process,
    release() {
      released = true
      logs.release(assignment_id)
      try {
        removeProcessFile(stateDir, assignment_id)
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
