/**
 * One start of an assignment: its process tree, and what is kept on disk beside it while it runs:
 * process file, log and work folder.
 */
import { mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { OwnedAssignment } from '../rows.js'
import type { Launch } from '../packages/launch.js'
import type { LogRotation } from '../../state-folder/log-rotation.js'
import { isLeased } from '../session/lease.js'
import {
  newRunId,
  OWNER_VARIABLE,
  removeProcessFile,
  writeProcessFile,
} from '../../state-folder/process-files.js'
import type { ProcessRunner, ManagedProcess } from '../warden/process-runner.js'
import { workloadEnv } from './environment.js'

export interface WorkloadProcess {
  readonly process: ManagedProcess
  /** The caller calls it when nothing of the tree is alive. */
  release(): void
}

export interface WorkloadDependencies {
  node: string
  /** ownerMark() of the node; deployment.env cannot set it. */
  owner: string
  /** A plain object, because reading process.env name by name costs a tenth of a start. */
  agentEnv: Readonly<Record<string, string | undefined>>
  stateDir: string
  runner: ProcessRunner
  /** Of every process that the runner starts for this agent. */
  runIdPrefix: string
  bootId: string | null
  logs: LogRotation
  log: Logger
}

/** Requests the process. Throws only when its work folder cannot be made. */
export function startWorkload(
  assignment: OwnedAssignment,
  launch: Launch,
  restarts: number,
  deps: WorkloadDependencies,
): WorkloadProcess {
  const { assignment_id, epoch, generation, stop_grace_ms } = assignment
  const cwd = launch.cwd ?? workDirOf(deps.stateDir, assignment_id)
  if (launch.cwd === null) makeFolder(cwd)
  return keepFilesOf(
    deps.runner.start({
      argv: launch.argv,
      cwd,
      env: {
        ...workloadEnv(deps.agentEnv, deps.node, assignment, launch.binDir),
        [OWNER_VARIABLE]: deps.owner,
      },
      logFile: deps.logs.keep(assignment_id),
      runId: newRunId(deps.runIdPrefix),
      about: {
        assignment_id,
        epoch,
        generation,
        stop_grace_ms,
        leased: isLeased(assignment),
        restarts,
      },
    }),
    deps,
  )
}

/** Continues a process that an earlier agent started. */
export function adoptWorkload(
  process: ManagedProcess,
  deps: WorkloadDependencies,
): WorkloadProcess {
  deps.logs.keep(process.about.assignment_id)
  return keepFilesOf(process, deps)
}

function keepFilesOf(
  process: ManagedProcess,
  { stateDir, bootId, logs, log }: WorkloadDependencies,
): WorkloadProcess {
  const {
    runId,
    about: { assignment_id, epoch, generation },
  } = process
  let released = false
  // Without the process file the mark finds the process: before it is written, or if it cannot be.
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
        'the process file could not be written',
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
        // harmless: its pid and start time match no process any more
      }
    },
  }
}

/** Only an empty folder is deleted. What a workload left in its folder stays. */
export function removeEmptyWorkDir(stateDir: string, assignmentId: string): void {
  try {
    rmdirSync(workDirOf(stateDir, assignmentId))
  } catch {
    // it is not empty, or was never made
  }
}

/** The parent exists, so this takes half the time of a recursive mkdir. */
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
