/** Runs processes as children of this process. It knows nothing of leases: see warden.ts. */
import { closeSync, constants, openSync } from 'node:fs'
import { bootClock } from '../../host/boot-clock.js'
import { deferred } from './deferred.js'
import type { NamespacePool } from './namespace-pool.js'
import type { ManagedProcess, ProcessRunner, StartedProcess, StartSpec } from './process-runner.js'
import { start, startInNamespace } from './spawn.js'
import type { ProcessHandle } from './spawn.js'
import { stopTree } from './stop-tree.js'
import type { Stop } from './stop-tree.js'

export interface LocalProcess extends ManagedProcess {
  readonly root: StartedProcess | null
  /** The warden calls it when the lease ends: resolves `fenced`, then ends the process. */
  fence(graceMs: number): void
}

export interface LocalRunner extends ProcessRunner {
  start(spec: StartSpec): LocalProcess
}

export interface LocalRunnerOptions {
  /** Given where each workload gets a PID namespace of its own. */
  namespaces?: NamespacePool
  /** Put before a workload's argv where it gets no namespace. */
  wrapper?: readonly string[]
  /** The log cannot be opened; the process runs without one. */
  onNoLog?(spec: StartSpec, code: string | undefined): void
  /** SIGKILL does not end the process. */
  onStuck?(runId: string): void
}

export function createLocalRunner({
  namespaces,
  wrapper,
  onNoLog = () => {},
  onStuck = () => {},
}: LocalRunnerOptions = {}): LocalRunner {
  return {
    start(spec) {
      const logFd = openLog(spec, onNoLog)
      const handle = namespaces
        ? startInNamespace(
            { ...spec, logFile: logFd === null ? null : spec.logFile },
            namespaces.take,
          )
        : start({ ...spec, logFd }, wrapper)
      if (logFd !== null) closeSync(logFd)
      return managed(spec, handle, () => onStuck(spec.runId))
    },
  }
}

function managed(
  { runId, about }: StartSpec,
  handle: ProcessHandle,
  onStuck: () => void,
): LocalProcess {
  let pid: number | null = null
  let stop: Stop | null = null
  const gone = deferred<void>()
  const fenced = deferred<void>()

  let programRuns = false
  /** When an end() that came before the program ran must be completed, whether it runs or not. */
  let endByMs = Infinity
  let endTimer: NodeJS.Timeout | undefined

  function end(graceMs: number): void {
    if (stop !== null) return stop.hurry(graceMs)
    if (!programRuns && graceMs > 0) return endWhenItRuns(graceMs)
    clearTimeout(endTimer)
    stop = stopTree(handle, graceMs, onStuck)
    void stop.done.then(handle.close).then(gone.resolve)
  }

  /** SIGTERM has no receiver before the program runs, so it waits for the program. */
  function endWhenItRuns(graceMs: number): void {
    endByMs = Math.min(endByMs, performance.now() + graceMs)
    clearTimeout(endTimer)
    endTimer = setTimeout(end, endByMs - performance.now(), 0)
  }

  const started = handle.started.then((process) => {
    pid = process?.pid ?? null
    // /proc is read once per turn, maybe before the program ran, and SIGTERM is sent only once
    setImmediate(() => {
      programRuns = true
      if (endByMs < Infinity) end(Math.max(0, endByMs - performance.now()))
    })
    return process
  })
  void handle.exit.then(({ error }) => end(error === null ? about.stop_grace_ms : 0))
  return {
    runId,
    about,
    root: handle.root,
    pid: () => pid,
    rootPid: () => handle.root?.pid ?? null,
    started,
    startedAtMs: bootClock(),
    exit: handle.exit,
    gone: gone.promise,
    fenced: fenced.promise,
    end,
    fence(graceMs) {
      fenced.resolve()
      end(graceMs)
    },
  }
}

/**
 * A workload may have put something else in place of its log.
 * A link is not followed, and the open does not wait for the reader of a pipe.
 */
const APPEND =
  constants.O_WRONLY |
  constants.O_APPEND |
  constants.O_CREAT |
  constants.O_NOFOLLOW |
  constants.O_NONBLOCK

function openLog(
  spec: StartSpec,
  onNoLog: NonNullable<LocalRunnerOptions['onNoLog']>,
): number | null {
  if (spec.logFile === null) return null
  try {
    return openSync(spec.logFile, APPEND, 0o600)
  } catch (error) {
    onNoLog(spec, (error as NodeJS.ErrnoException).code)
    return null
  }
}
