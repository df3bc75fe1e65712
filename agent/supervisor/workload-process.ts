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
import { startProblem } from '../warden/start-errors.js'
import { giveFolder, giveLog, type WorkloadUser } from '../workload-user.js'
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
  /** It runs as this user; null: as the user of this process. */
  user: WorkloadUser | null
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

/** Requests the process. Throws a sentence when it cannot be started. */
export function startWorkload(
  assignment: OwnedAssignment,
  launch: Launch,
  restarts: number,
  deps: WorkloadDependencies,
): WorkloadProcess {
  const { assignment_id, epoch, generation, stop_grace_ms } = assignment
  const { user } = deps
  const workDir = workDirOf(deps.stateDir, assignment_id)
  const cwd = launch.cwd ?? workDir
  if (launch.cwd === null || user !== null) makeWorkDir(workDir, user)
  const env = {
    ...workloadEnv(
      deps.agentEnv,
      deps.node,
      assignment,
      launch.binDir,
      user && { HOME: user.enters ? user.home : workDir, USER: user.name, LOGNAME: user.name },
    ),
    [OWNER_VARIABLE]: deps.owner,
  }
  const logFile = deps.logs.keep(assignment_id)
  if (user !== null) {
    // the warden sees the program by which it becomes the user, and not the workload's
    const problem = startProblem({ argv: launch.argv, cwd, env }, true)
    if (problem !== null) throw new Error(problem)
    giveLog(user, logFile)
  }
  return keepFilesOf(
    deps.runner.start({
      argv: [...(user?.become ?? []), ...launch.argv],
      cwd,
      env,
      logFile,
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
function makeWorkDir(path: string, user: WorkloadUser | null): void {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST') throw new Error(`cannot start: its work folder cannot be made (${code})`)
  }
  if (user !== null) giveFolder(user, path)
}

function workDirOf(stateDir: string, assignmentId: string): string {
  return join(stateDir, 'work', assignmentId)
}
