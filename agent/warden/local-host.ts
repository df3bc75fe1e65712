/** Runs processes as children of this one. Knows nothing of leases: that is warden.ts. */
import { closeSync, constants, openSync } from 'node:fs'
import { bootClock } from '../../host/boot-clock.js'
import type { Cells } from './namespace-pool.js'
import type { Host, HostedProcess, StartedProcess, StartSpec } from './host.js'
import { start, startInCell } from './spawn.js'
import type { ProcessHandle } from './spawn.js'
import { stopTree } from './stop-tree.js'
import type { Stop } from './stop-tree.js'

export interface LocalProcess extends HostedProcess {
  readonly root: StartedProcess | null
  /** To be called by whoever watches its lease. */
  fence(graceMs: number): void
}

export interface LocalHost extends Host {
  start(spec: StartSpec): LocalProcess
}

export interface LocalHostOptions {
  /** Where each workload gets a PID namespace of its own. */
  cells?: Cells
  /** What is put before a workload's argv where it does not. */
  wrapper?: readonly string[]
  /** Its log cannot be opened; it runs without one. */
  onNoLog?(spec: StartSpec, code: string | undefined): void
  /** SIGKILL does not end it. */
  onStuck?(mark: string): void
}

export function createLocalHost({
  cells,
  wrapper,
  onNoLog = () => {},
  onStuck = () => {},
}: LocalHostOptions = {}): LocalHost {
  return {
    start(spec) {
      const logFd = openLog(spec, onNoLog)
      const handle = cells
        ? startInCell({ ...spec, logFile: logFd === null ? null : spec.logFile }, cells.take)
        : start({ ...spec, logFd }, wrapper)
      if (logFd !== null) closeSync(logFd)
      return hosted(spec, handle, () => onStuck(spec.mark))
    },
  }
}

function hosted(
  { mark, about }: StartSpec,
  handle: ProcessHandle,
  onStuck: () => void,
): LocalProcess {
  let pid: number | null = null
  let stop: Stop | null = null
  let onGone: () => void
  let onFenced: () => void
  const gone = new Promise<void>((resolve) => {
    onGone = resolve
  })
  const fenced = new Promise<void>((resolve) => {
    onFenced = resolve
  })

  let stands = false
  /** Asked to end before it stood: SIGTERM would have met nobody. When it has to be gone, whether it ever stands or not. */
  let owedAtMs = Infinity
  let overdue: NodeJS.Timeout | undefined

  function end(graceMs: number): void {
    if (stop !== null) return stop.hurry(graceMs)
    if (!stands && graceMs > 0) return owe(graceMs)
    clearTimeout(overdue)
    stop = stopTree(handle, graceMs, onStuck)
    void stop.done.then(handle.close).then(onGone)
  }

  function owe(graceMs: number): void {
    owedAtMs = Math.min(owedAtMs, performance.now() + graceMs)
    clearTimeout(overdue)
    overdue = setTimeout(end, owedAtMs - performance.now(), 0)
  }

  const started = handle.started.then((process) => {
    pid = process?.pid ?? null
    // a look that another tree took in this turn may be from before it ran, and SIGTERM is sent once
    setImmediate(() => {
      stands = true
      if (owedAtMs < Infinity) end(Math.max(0, owedAtMs - performance.now()))
    })
    return process
  })
  void handle.exit.then(({ error }) => end(error === null ? about.stop_grace_ms : 0))
  return {
    mark,
    about,
    root: handle.root,
    pid: () => pid,
    rootPid: () => handle.root?.pid ?? null,
    started,
    startedAtMs: bootClock(),
    exit: handle.exit,
    gone,
    fenced,
    end,
    fence(graceMs) {
      onFenced()
      end(graceMs)
    },
  }
}

/** What lies there instead may be the workload's doing: a link is not followed, and a pipe nobody reads is not waited for. */
const APPEND =
  constants.O_WRONLY |
  constants.O_APPEND |
  constants.O_CREAT |
  constants.O_NOFOLLOW |
  constants.O_NONBLOCK

function openLog(
  spec: StartSpec,
  onNoLog: NonNullable<LocalHostOptions['onNoLog']>,
): number | null {
  if (spec.logFile === null) return null
  try {
    return openSync(spec.logFile, APPEND, 0o600)
  } catch (error) {
    onNoLog(spec, (error as NodeJS.ErrnoException).code)
    return null
  }
}
