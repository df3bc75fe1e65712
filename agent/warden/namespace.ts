/**
 * A PID namespace for one workload, and the shell in it that waits to become that workload.
 *
 *     warden ─ setpriv ─► unshare ─► init (sh, PID 1) ─ setsid ─► runner (sh) ─ exec ─► workload
 *
 * The runner reads one script from its stdin (runner-script.ts). Descriptor 3 leads back: `ready`,
 * `up`, then the exit code. A namespace runs one workload and is never reused. Why it is built so:
 * README.md, "Containment".
 */
import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { childrenOf, readProcess } from '../../host/process-table.js'
import { deferred } from './deferred.js'
import type { StartedProcess } from './process-runner.js'

export interface Namespace {
  /** unshare. It leads the process group that init is in too. */
  readonly root: StartedProcess
  /** Null when it cannot be determined. Init ends last, so it is also there while all else ends. */
  init(): StartedProcess | null
  /** The runner has reported that it waits. */
  isReady(): boolean
  /** No signal has ended or stopped the namespace. Its workload may have ended. */
  isAlive(): boolean
  /** Sends the runner its script. Call it once. */
  run(script: string): void
  /** Null before the runner is ready and after the workload has ended. */
  workload(): StartedProcess | null
  /** True just before the program is executed; false when it never will be. */
  readonly up: Promise<boolean>
  /** The workload's exit code as a shell reports it; null when it cannot be determined. */
  readonly status: Promise<number | null>
  /** The end of `root`, after all its output on descriptor 3 has been read. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** SIGKILL to everything in the namespace. */
  kill(): void
}

/**
 * The argv of PID 1. It reads nothing before the runner has ended, because both share one stdin.
 * Then it waits for the end of stdin.
 */
export function initOf(sh: string, setsid: string): string[] {
  return [
    sh,
    '-c',
    '"$1" "$0" -s; status=$?; echo $status >&3; read -r rest; exit $status',
    sh,
    setsid,
  ]
}

/** Throws EAGAIN when the host has no room for a process. Later errors show as its end. */
export function createNamespace(wrapper: readonly string[], runId: string): Namespace {
  const [program, ...args] = wrapper
  // stderr is discarded: a shell writes "Terminated" there
  const child = spawn(program!, args, {
    cwd: '/',
    env: { MOORING_RUN: runId },
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
  })
  child.on('error', () => {})
  if (child.pid === undefined)
    throw Object.assign(new Error('no PID namespace could be made'), { code: 'EAGAIN' })
  const root = { pid: child.pid, startTicks: readProcess(child.pid)?.startTicks ?? null }
  const input = child.stdin as Writable
  /** Until the root is reaped its pid cannot belong to another process. */
  let reaped = false
  let hasScript = false
  let ready = false
  let init: StartedProcess | null = null
  let runner: StartedProcess | null = null
  let output = ''
  const up = deferred<boolean>()
  const status = deferred<number | null>()
  const ended = deferred<Awaited<Namespace['ended']>>()
  child.once('exit', () => {
    reaped = true
  })
  child.once('close', (code, signal) => {
    up.resolve(false)
    status.resolve(null)
    ended.resolve({ code, signal })
  })
  input.on('error', () => {})
  input.write('echo ready >&3\n')
  ;(child.stdio[3] as Readable)
    .setEncoding('latin1')
    .on('error', () => {})
    .on('data', (text: string) => {
      output += text
      const found = /^ready\n(up\n)?(?:(\d+)\n)?/.exec(output)
      if (found !== null && !ready) {
        ready = true
        runner = firstChildOf(findInit())
      }
      if (found?.[1] !== undefined) up.resolve(true)
      if (found?.[2] === undefined) return
      up.resolve(false)
      status.resolve(Number(found[2]))
    })
  const findInit = (): StartedProcess | null => (init ??= reaped ? null : firstChildOf(root))
  const kill = (pid: number | undefined): void => {
    try {
      if (pid !== undefined && !reaped) process.kill(pid, 'SIGKILL')
    } catch {
      // gone
    }
  }
  return {
    root,
    init: findInit,
    isReady: () => ready,
    isAlive: () =>
      !reaped && exists(root) && (!ready || (isAwake(init) && (hasScript || isAwake(runner)))),
    workload: () => (exists(runner) ? runner : null),
    run(script) {
      hasScript = true
      input.write(script)
    },
    up: up.promise,
    status: status.promise,
    ended: ended.promise,
    kill() {
      // read now, because the pid of init noted earlier may belong to another process by now
      kill(childrenOf(root.pid)[0])
      kill(root.pid)
    },
  }
}

function exists(process: StartedProcess | null): boolean {
  return process !== null && readProcess(process.pid)?.startTicks === process.startTicks
}

function isAwake(process: StartedProcess | null): boolean {
  return exists(process) && !readProcess(process!.pid)?.stopped
}

function firstChildOf(parent: StartedProcess | null): StartedProcess | null {
  const pid = parent === null ? undefined : childrenOf(parent.pid)[0]
  return pid === undefined ? null : readProcess(pid)
}
