/**
 * One assignment on this host: from its row to a process, and back to nothing.
 *
 *   none -> preparing -> prepared -> alive -> ending -> none   stop ordered, or replaced
 *   none -> alive                                              its command needs no package
 *   preparing -> waiting -> none                               the preparation failed
 *   alive -> ending -> waiting -> none                         ended by itself, or failed to start
 *   none -> refused -> none                                    not trusted, until the row changes
 *
 * decide() says what to do next after each event; only fence() and stop() act without it.
 * This file does it and reports it.
 * There is at most one process tree: `ending` lasts until all of it is gone.
 */
import type { Logger } from 'pino'
import { createRestartBackoff, type RestartBackoffOptions } from './restart-backoff.js'
import {
  adoptWorkload,
  removeEmptyWorkDir,
  startWorkload,
  type WorkloadDependencies,
  type WorkloadProcess,
} from './workload-process.js'
import type { AssignmentReport, ObservedState, OwnedAssignment } from '../rows.js'
import { launchCommand, type Launch } from '../packages/launch.js'
import type { NpmInstaller } from '../packages/npm-install.js'
import { packagesNeededBy, type InstanceNeeds } from '../cleanup/needed.js'
import { checkTrust, type Trust } from '../packages/trust.js'
import { createPreparation } from './preparation.js'
import {
  decide,
  type Action,
  type LocalAssignment,
  type Phase,
  type StopReason,
} from './reconcile.js'
import { bootClock } from '../../host/boot-clock.js'
import type { Exit, ManagedProcess } from '../warden/process-runner.js'

export interface AssignmentDependencies extends WorkloadDependencies {
  trust: Trust
  installer: NpmInstaller
  backoff: RestartBackoffOptions
  log: Logger
  report: (report: AssignmentReport) => void
  /** The last epoch under which this session ran it. The supervisor remembers it; null: no more. */
  ranEpoch: string | null
  onEpochRan: (epoch: string | null) => void
  /** The warden fenced the process, because its lease ended there. */
  onFenced: () => void
  /** No process is left, and the node does not own the assignment. */
  onGone: () => void
}

export interface SupervisedAssignment {
  local(): LocalAssignment
  /**
   * Sets the wanted row; undefined when the node no longer owns it. Lifts a fence.
   * Acts only at the next apply(), or at the next event of its own.
   */
  setWanted(assignment: OwnedAssignment | undefined, mayStart: boolean): void
  apply(action: Action): void
  fence(graceMs: number): void
  /** In a hold it is no longer restarted for having run before. */
  forgetRan(): void
  /** Stops for good, within graceMs or the grace of the process. onGone() follows. */
  stop(graceMs?: number): void
  /** Cancels what is not yet a process, and leaves a process to the next supervisor. */
  detach(): void
  /** Root of the present tree, null when there is none. */
  pid(): number | null
  packages(): InstanceNeeds['packages']
  /** Continues a process that an earlier agent started. Legal before anything else. */
  adopt(process: ManagedProcess): void
}

const FENCED = 'fenced: lease ended'

export function superviseAssignment(
  assignmentId: string,
  deps: AssignmentDependencies,
): SupervisedAssignment {
  const log = deps.log.child({ assignment_id: assignmentId })

  let wanted: OwnedAssignment | undefined
  let mayStart = false
  let fenced = false
  let phase: Phase = 'none'

  // of the instance that the phase is about
  let epoch = ''
  let generation = ''
  let ranEpoch = deps.ranEpoch
  let restarts = 0
  let lastExit: Exit | null = null
  let refusal = ''
  let lastReport: AssignmentReport | null = null
  const backoff = createRestartBackoff(deps.backoff)

  const preparation = createPreparation(deps.installer, {
    onInstalling: () => report('installing'),
    onReady(launch) {
      phase = 'prepared'
      prepared = launch
      decideNext()
    },
    onFailed: (reason) => retryLater(reason),
  })
  let prepared: Launch | null = null
  let timer: NodeJS.Timeout | undefined
  let workload: WorkloadProcess | null = null
  /**
   * When the next process follows one that ended by itself. On performance.now(), as the timer of
   * wait(): neither counts while the machine sleeps. startedAtMs needs bootClock(), because it
   * comes from the warden, another process.
   */
  let restartAtMs: number | null = null
  /** Why the process could not be started. */
  let startFailure: string | null = null
  let detached = false
  /** Nothing is decided before the first orders. */
  let adoptedWithoutOrders = false

  const local = (): LocalAssignment => ({
    assignment_id: assignmentId,
    epoch,
    generation,
    phase,
    ran_epoch: ranEpoch,
    fenced,
  })
  const isCurrent = (assignment: OwnedAssignment): boolean =>
    assignment.epoch === epoch && assignment.generation === generation

  const report = (state: ObservedState, more: Partial<AssignmentReport> = {}): void => {
    lastReport = {
      assignment_id: assignmentId,
      epoch,
      generation,
      state,
      pid: workload?.process.pid() ?? null,
      restarts,
      exit_code: lastExit?.code ?? null,
      exit_signal: lastExit?.signal ?? null,
      error: null,
      next_start_in_ms: null,
      ...more,
    }
    deps.report(lastReport)
  }

  const processGraceMs = (): number => workload?.process.about.stop_grace_ms ?? 0
  /** The latest edit counts. Of a deleted deployment (generation 0) only the process knows it. */
  const wantedGraceMs = (): number =>
    wanted && wanted.generation !== '0' ? wanted.stop_grace_ms : processGraceMs()

  const decideNext = (): void => {
    if (detached || adoptedWithoutOrders) return
    const action = decide(wanted, local(), { mayStart })
    if (action) apply(action)
  }

  const apply = (action: Action): void => {
    switch (action.kind) {
      case 'start':
        return wanted && start(wanted)
      case 'stop':
        return stopProcess(action.reason, wantedGraceMs())
      case 'settle':
        return settle()
    }
  }

  /** Cancels what has not become a process. */
  const cancelStart = (): void => {
    preparation.cancel()
    prepared = null
    clearTimeout(timer)
  }

  const turnTo = (assignment: OwnedAssignment): void => {
    if (isCurrent(assignment)) return
    cancelStart()
    ;({ epoch, generation } = assignment)
    backoff.reset()
    restarts = 0
    lastExit = null
    preparation.forget()
  }

  const start = (assignment: OwnedAssignment): void => {
    turnTo(assignment)
    if (prepared) startProcess(assignment, prepared)
    else prepare(assignment)
  }

  const prepare = (assignment: OwnedAssignment): void => {
    const verdict = checkTrust(assignment, deps.trust)
    if (!verdict.ok) {
      phase = 'refused'
      refusal = verdict.reason
      log.warn(
        { event: 'assignment_refused', epoch, reason: refusal },
        'this agent refuses to run the assignment',
      )
      return report('refused', { error: refusal })
    }
    const { ref, command } = verdict
    if (ref === null) return startProcess(assignment, launchCommand(command!, assignment.args))
    phase = 'preparing'
    preparation.begin({ ref, command, args: assignment.args })
  }

  const startProcess = (assignment: OwnedAssignment, launch: Launch): void => {
    prepared = null
    try {
      workload = startWorkload(assignment, launch, restarts, { ...deps, log })
    } catch (error) {
      return retryLater((error as Error).message)
    }
    follow(workload)
  }

  const follow = (followed: WorkloadProcess): void => {
    const { started, exit, fenced: leaseEnded, gone } = followed.process
    phase = 'alive'
    ranEpoch = epoch
    deps.onEpochRan(epoch)
    void started.then((process) => {
      if (process === null) return
      log.info({ event: 'process_started', epoch, pid: process.pid }, 'process started')
      if (phase === 'alive') report('running')
    })
    void exit.then(onExit)
    void leaseEnded.then(() => {
      // It may come after `gone`, when a later process runs. `exit` cannot: the next start waits
      // for `gone`, which follows it.
      if (workload !== followed) return
      fence(null)
      deps.onFenced()
    })
    void gone.then(onGone)
  }

  /** Of the leader. The rest of its tree must follow before anything else is done. */
  const onExit = (exit: Exit): void => {
    lastExit = exit.error === null ? exit : null
    if (phase !== 'alive' || !workload) return
    phase = 'ending'
    if (exit.error !== null) {
      startFailure = exit.error
      return
    }
    const ranForMs = bootClock() - workload.process.startedAtMs
    restarts++
    const delayMs = backoff.nextMs(ranForMs)
    restartAtMs = performance.now() + delayMs
    const how = exit.signal === null ? `exited with code ${exit.code}` : `ended by ${exit.signal}`
    log.warn(
      {
        event: 'process_ended',
        epoch,
        pid: workload.process.pid(),
        exit_code: exit.code,
        exit_signal: exit.signal,
        ran_for_ms: Math.round(ranForMs),
        next_start_in_ms: delayMs,
      },
      'process ended by itself',
    )
    report('backoff', {
      pid: null,
      error: `${how} after ${(ranForMs / 1000).toFixed(1)} s`,
      next_start_in_ms: delayMs,
    })
  }

  /** graceMs is null when the warden is stopping the process already. */
  const stopProcess = (reason: StopReason, graceMs: number | null): void => {
    log.info(
      { event: 'process_stopping', epoch, pid: workload?.process.pid(), reason, grace_ms: graceMs },
      'stopping process',
    )
    phase = 'ending'
    if (graceMs !== null) workload?.process.end(graceMs)
    report('stopping', { error: fenced ? FENCED : null })
  }

  const onGone = (): void => {
    if (startFailure === null)
      log.info(
        { event: 'process_gone', epoch, pid: workload?.process.pid() },
        'the process tree is gone',
      )
    workload?.release()
    workload = null
    phase = 'none'
    if (startFailure !== null) return retryLater(startFailure)
    if (restartAtMs !== null) wait(restartAtMs - performance.now())
    restartAtMs = null
    decideNext()
  }

  const retryLater = (reason: string): void => {
    startFailure = null
    const delayMs = backoff.nextMs(null)
    log.warn(
      { event: 'start_failed', epoch, reason, next_start_in_ms: delayMs },
      'the assignment could not be started',
    )
    wait(delayMs)
    report('failed', { error: reason, next_start_in_ms: delayMs })
    decideNext()
  }

  const wait = (delayMs: number): void => {
    phase = 'waiting'
    timer = setTimeout(
      () => {
        phase = 'none'
        decideNext()
      },
      Math.max(0, delayMs),
    )
  }

  const settle = (): void => {
    if (phase === 'refused' && wanted && isCurrent(wanted))
      return report('refused', { error: refusal })
    cancelStart()
    phase = 'none'
    if (wanted) turnTo(wanted)
    // The report of an ordered stop frees the row, and another node may run it from then on. A
    // standby that is promoted without both would name this node again, under the same epoch.
    if (wanted?.wanted === 'stop') forgetRan()
    // A row that is not owned is reported only where something was done and no final report was
    // made, because the database rejects any other report of it.
    const isReported =
      lastReport === null || lastReport.state === 'stopped' || lastReport.state === 'refused'
    if (wanted || !isReported) report('stopped', { error: fenced ? FENCED : null })
    if (wanted) return
    removeEmptyWorkDir(deps.stateDir, assignmentId)
    deps.onGone()
  }

  const forgetRan = (): void => {
    ranEpoch = null
    deps.onEpochRan(null)
  }

  const fence = (graceMs: number | null): void => {
    if (phase === 'refused') return
    const wasFenced = fenced
    fenced = true
    if (phase === 'alive') stopProcess('fenced', graceMs)
    else if (phase === 'ending' && graceMs !== null) workload?.process.end(graceMs)
    else if (phase !== 'ending' && !wasFenced) decideNext()
  }

  return {
    local,
    apply,
    fence,
    setWanted(assignment, startAllowed) {
      adoptedWithoutOrders = false
      wanted = assignment
      mayStart = startAllowed
      fenced = false
    },
    stop(graceMs) {
      adoptedWithoutOrders = false
      wanted = undefined
      mayStart = false
      if (phase === 'alive') stopProcess('agent_stops', graceMs ?? processGraceMs())
      else if (phase !== 'ending') decideNext()
      else if (graceMs !== undefined) workload?.process.end(graceMs)
    },
    forgetRan,
    detach() {
      cancelStart()
      detached = true
    },
    pid: () => workload?.process.rootPid() ?? null,
    packages: () =>
      packagesNeededBy({
        exact: preparation.exact(),
        started: workload !== null,
        wanted,
        isCurrent: wanted !== undefined && isCurrent(wanted),
      }),
    adopt(process) {
      ;({ epoch, generation, restarts } = process.about)
      workload = adoptWorkload(process, { ...deps, log })
      adoptedWithoutOrders = true
      follow(workload)
    },
  }
}
