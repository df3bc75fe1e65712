/**
 * One assignment on this host: from the row to a process, and back to nothing.
 *
 *   none -> preparing -> prepared -> alive -> ending -> none             ordered stop, or another copy to follow
 *                 \                       \-> ending -> waiting -> none  ended by itself, or could not be started
 *   What to do next is decide()'s answer alone, asked after each event; here is only how it is done and what is told about it.
 *
 * At most one process tree at a time: `ending` lasts until the whole tree is gone, and nothing starts before.
 */
import type { Logger } from 'pino'
import { backoffDelayMs, failuresAfter } from './restart-backoff.js'
import type { BackoffOptions } from './restart-backoff.js'
import { adoptCopy, removeEmptyWorkDir, startCopy } from './workload-process.js'
import type { Copy, CopyDependencies } from './workload-process.js'
import type { OwnedAssignment, RunReport, RunState } from '../rows.js'
import { launchCommand } from '../packages/launch.js'
import type { Launch } from '../packages/launch.js'
import type { NpmInstaller } from '../packages/npm-install.js'
import { packagesNeededBy, type InstanceNeeds } from '../cleanup/needed.js'
import { checkTrust } from '../packages/trust.js'
import type { Trust } from '../packages/trust.js'
import { createPreparation } from './preparation.js'
import { decide } from './reconcile.js'
import type { Action, Phase, Running, StopReason } from './reconcile.js'
import { bootClock } from '../../host/boot-clock.js'
import type { ManagedProcess } from '../warden/process-runner.js'
import type { Exit } from '../warden/process-runner.js'

export interface RunDependencies extends CopyDependencies {
  trust: Trust
  installer: NpmInstaller
  backoff: BackoffOptions
  log: Logger
  report: (report: RunReport) => void
  /** The last epoch under which this session ran it, and where that is kept: it outlives this object. */
  ranEpoch: string | null
  onRan: (epoch: string) => void
  /** Its lease ended where it runs. */
  onFenced: () => void
  /** Nothing of it is left and it is not owned. */
  onGone: () => void
}

export interface Run {
  facts(): Running
  /** Sets what is wanted; acts only when told by `apply`, or at its own next event. Undefined: no longer owned. Lifts a fence. */
  want(assignment: OwnedAssignment | undefined, mayStart: boolean): void
  apply(action: Action): void
  fence(graceMs: number): void
  /** Stops within graceMs (its own grace when not given) and for good; `onGone` tells when it has. */
  close(graceMs?: number): void
  /** Calls off what is no process yet, and has nothing more to do with what is. */
  letGo(): void
  /** Root of the present tree, null when there is none. */
  pid(): number | null
  packages(): InstanceNeeds['packages']
  /** Goes on with what an earlier agent started; legal before anything else. */
  adopt(process: ManagedProcess): void
}

const FENCED = 'fenced: lease ended'

export function createRun(assignmentId: string, deps: RunDependencies): Run {
  const log = deps.log.child({ assignment_id: assignmentId })

  let want: OwnedAssignment | undefined
  let mayStart = false
  let fenced = false
  let phase: Phase = 'none'

  // Of the copy that the phase is about.
  let epoch = ''
  let generation = ''
  let ranEpoch = deps.ranEpoch
  let failures = 0
  let restarts = 0
  let lastExit: Exit | null = null
  let refusal = ''
  let lastReport: RunReport | null = null

  const preparation = createPreparation(deps.installer, {
    onInstalling: () => observe('installing'),
    onReady() {
      phase = 'prepared'
      next()
    },
    onFailed: (reason) => failed(reason),
  })
  let timer: NodeJS.Timeout | undefined
  let copy: Copy | null = null
  /** When the copy that ended by itself is to be followed by the next. */
  let restartAtMs: number | null = null
  /** Why the copy could not be started. */
  let failure: string | null = null
  let handedOn = false
  /** Taken over, and not told yet what is wanted: nothing is decided before. */
  let untold = false

  const facts = (): Running => ({
    assignment_id: assignmentId,
    epoch,
    generation,
    phase,
    ran_epoch: ranEpoch,
    fenced,
  })
  const isAbout = (assignment: OwnedAssignment): boolean =>
    assignment.epoch === epoch && assignment.generation === generation

  const observe = (state: RunState, more: Partial<RunReport> = {}): void => {
    lastReport = {
      assignment_id: assignmentId,
      epoch,
      generation,
      state,
      pid: copy?.process.pid() ?? null,
      restarts,
      exit_code: lastExit?.code ?? null,
      exit_signal: lastExit?.signal ?? null,
      error: null,
      next_start_in_ms: null,
      ...more,
    }
    deps.report(lastReport)
  }

  const ownGraceMs = (): number => copy?.process.about.stop_grace_ms ?? 0
  /** As last edited; of a deleted deployment (generation 0) only the copy that runs still knows it. */
  const wantedGraceMs = (): number =>
    want && want.generation !== '0' ? want.stop_grace_ms : ownGraceMs()

  const next = (): void => {
    if (handedOn || untold) return
    const action = decide(want, facts(), { mayStart })
    if (action) apply(action)
  }

  const apply = (action: Action): void => {
    switch (action.kind) {
      case 'start':
        return begin()
      case 'stop':
        return beginStop(action.reason, wantedGraceMs())
      case 'settle':
        return settle()
    }
  }

  /** Calls off what has not become a process. */
  const callOff = (): void => {
    preparation.callOff()
    clearTimeout(timer)
  }

  const turnTo = (assignment: OwnedAssignment): void => {
    if (isAbout(assignment)) return
    callOff()
    ;({ epoch, generation } = assignment)
    failures = 0
    restarts = 0
    lastExit = null
    preparation.forget()
  }

  const begin = (): void => {
    if (!want) return
    turnTo(want)
    const verdict = checkTrust(want, deps.trust)
    if (!verdict.ok) {
      phase = 'refused'
      refusal = verdict.reason
      log.warn({ event: 'assignment_refused', epoch, reason: refusal }, 'will not run it here')
      return observe('refused', { error: refusal })
    }
    const ready = preparation.take()
    if (ready) return spawnCopy(want, ready)
    if (verdict.ref === null) return spawnCopy(want, launchCommand(verdict.command!, want.args))
    phase = 'preparing'
    preparation.begin({ ref: verdict.ref, command: verdict.command, args: want.args })
  }

  const spawnCopy = (assignment: OwnedAssignment, launch: Launch): void => {
    try {
      copy = startCopy(assignment, launch, restarts, { ...deps, log })
    } catch (error) {
      return failed(
        `cannot start: its work folder cannot be made (${(error as NodeJS.ErrnoException).code})`,
      )
    }
    follow(copy)
  }

  const follow = (of: Copy): void => {
    const { started, exit, fenced: leaseEnded, gone: treeGone } = of.process
    phase = 'alive'
    ranEpoch = epoch
    deps.onRan(epoch)
    void started.then((process) => {
      if (process === null) return
      log.info({ event: 'process_started', epoch, pid: process.pid }, 'process started')
      if (phase === 'alive') observe('running')
    })
    void exit.then(ended)
    void leaseEnded.then(() => {
      // a copy of before, told of late, says nothing of the one that runs now
      if (copy !== of) return
      fence(null)
      deps.onFenced()
    })
    void treeGone.then(gone)
  }

  /** Of the leader; the rest of its tree has to follow before anything else is done. */
  const ended = (exit: Exit): void => {
    lastExit = exit.error === null ? exit : null
    if (phase !== 'alive' || !copy) return
    phase = 'ending'
    if (exit.error !== null) {
      failure = exit.error
      return
    }
    const ranForMs = bootClock() - copy.process.startedAtMs
    failures = failuresAfter(failures, ranForMs, deps.backoff)
    restarts++
    const delayMs = backoffDelayMs(failures, deps.backoff)
    restartAtMs = performance.now() + delayMs
    const how = exit.signal === null ? `exited with code ${exit.code}` : `ended by ${exit.signal}`
    log.warn(
      {
        event: 'process_ended',
        epoch,
        pid: copy.process.pid(),
        exit_code: exit.code,
        exit_signal: exit.signal,
        ran_for_ms: Math.round(ranForMs),
        next_start_in_ms: delayMs,
      },
      'process ended by itself',
    )
    observe('backoff', {
      pid: null,
      error: `${how} after ${(ranForMs / 1000).toFixed(1)} s`,
      next_start_in_ms: delayMs,
    })
  }

  /** graceMs null: whoever runs the process is stopping it already. */
  const beginStop = (reason: StopReason, graceMs: number | null): void => {
    log.info(
      { event: 'process_stopping', epoch, pid: copy?.process.pid(), reason, grace_ms: graceMs },
      'stopping process',
    )
    phase = 'ending'
    if (graceMs !== null) copy?.process.end(graceMs)
    observe('stopping', { error: fenced ? FENCED : null })
  }

  const gone = (): void => {
    if (failure === null)
      log.info(
        { event: 'process_gone', epoch, pid: copy?.process.pid() },
        'process and all it started are gone',
      )
    copy?.release()
    copy = null
    phase = 'none'
    if (failure !== null) return failed(failure)
    if (restartAtMs !== null) wait(restartAtMs - performance.now())
    restartAtMs = null
    next()
  }

  const failed = (reason: string): void => {
    failure = null
    failures++
    const delayMs = backoffDelayMs(failures, deps.backoff)
    log.warn(
      { event: 'start_failed', epoch, reason, next_start_in_ms: delayMs },
      'cannot be started',
    )
    wait(delayMs)
    observe('failed', { error: reason, next_start_in_ms: delayMs })
    next()
  }

  const wait = (delayMs: number): void => {
    phase = 'waiting'
    timer = setTimeout(
      () => {
        phase = 'none'
        next()
      },
      Math.max(0, delayMs),
    )
  }

  const settle = (): void => {
    if (phase === 'refused' && want && isAbout(want)) return observe('refused', { error: refusal })
    callOff()
    phase = 'none'
    if (want) turnTo(want)
    // Not owned: nothing to say where nothing was ever done, and what was said already would only be turned away.
    const said =
      lastReport === null || lastReport.state === 'stopped' || lastReport.state === 'refused'
    if (want || !said) observe('stopped', { error: fenced ? FENCED : null })
    if (want) return
    removeEmptyWorkDir(deps.stateDir, assignmentId)
    deps.onGone()
  }

  const fence = (graceMs: number | null): void => {
    if (phase === 'refused') return
    const again = fenced
    fenced = true
    if (phase === 'alive') beginStop('fenced', graceMs)
    else if (phase === 'ending' && graceMs !== null) copy?.process.end(graceMs)
    else if (phase !== 'ending' && !again) next()
  }

  return {
    facts,
    apply,
    fence,
    want(assignment, startAllowed) {
      untold = false
      want = assignment
      mayStart = startAllowed
      fenced = false
    },
    close(graceMs) {
      untold = false
      want = undefined
      mayStart = false
      if (phase === 'alive') beginStop('agent_stops', graceMs ?? ownGraceMs())
      else if (phase !== 'ending') next()
      else if (graceMs !== undefined) copy?.process.end(graceMs)
    },
    letGo() {
      callOff()
      handedOn = true
    },
    pid: () => copy?.process.rootPid() ?? null,
    packages: () =>
      packagesNeededBy({
        exact: preparation.exact(),
        started: copy !== null,
        want,
        isAboutWant: want !== undefined && isAbout(want),
      }),
    adopt(process) {
      ;({ epoch, generation, restarts } = process.about)
      copy = adoptCopy(process, { ...deps, log })
      untold = true
      follow(copy)
    },
  }
}
