/**
 * The only place that starts workloads.
 *
 * Promises of start() and startInNamespace(): they neither throw nor reject. What they started has
 * a session and a process group of its own. The error of a failed start contains no value of the
 * environment. They decide nothing: the caller decides what is stopped, and when.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { readProcess } from '../../host/process-table.js'
import type { Namespace } from './namespace.js'
import type { Exit, StartedProcess } from './process-runner.js'
import { namespacedTree, processTree } from './process-tree.js'
import type { ProcessTree } from './process-tree.js'
import { runnerScript } from './runner-script.js'
import type { WorkloadSpec } from './runner-script.js'
import { sizeProblem, startError, startProblem } from './start-errors.js'
import type { Command } from './start-errors.js'

/**
 * argv[0] is a path, or a name that is looked up in the PATH of `env`. No shell interprets argv.
 * `env` is complete: only MOORING_RUN is added to it.
 */
export interface SpawnSpec extends Command {
  /** Receives stdout and stderr; null discards both. The caller closes it. */
  logFd: number | null
  /** Value of MOORING_RUN, unique to this start. */
  runId: string
}

export interface ProcessHandle extends ProcessTree {
  /** The workload, or what contains it; it leads the session. Null when nothing was started. */
  readonly root: StartedProcess | null
  /** Resolves just before the program is executed; with null when it never will be. */
  readonly started: Promise<StartedProcess | null>
  /** The exit of the workload itself. Other processes of its tree may still be alive. */
  readonly exit: Promise<Exit>
}

/** `wrapper` is put before argv (containment.ts). */
export function start(spec: SpawnSpec, wrapper: readonly string[] = []): ProcessHandle {
  const problem = startProblem(spec, wrapper.length > 0)
  if (problem !== null) return neverStarted(Promise.resolve(problem))
  const [program, ...args] = [...wrapper, ...spec.argv]
  const output = spec.logFd ?? 'ignore'
  let child: ChildProcess
  try {
    child = spawn(program!, args, {
      cwd: spec.cwd,
      env: { ...spec.env, MOORING_RUN: spec.runId },
      detached: true,
      shell: false,
      stdio: ['ignore', output, output],
    })
  } catch (error) {
    // Node throws E2BIG and some rare errors; ENOENT and its like arrive as an event
    return neverStarted(Promise.resolve(startError(spec, error)))
  }
  if (child.pid === undefined) {
    return neverStarted(
      new Promise((resolve) => child.once('error', (error) => resolve(startError(spec, error)))),
    )
  }

  // After a start 'error' reports only a failed kill() or send(), and Node is asked for neither.
  // Without a listener the event would end the warden.
  child.on('error', () => {})
  const root = {
    pid: child.pid,
    startTicks: readProcess(child.pid)?.startTicks ?? null,
    runId: spec.runId,
    groupOutlivesRoot: true,
  }
  let reaped = false
  const exit = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      reaped = true
      resolve({ code, signal, error: null })
    })
  })
  return { root, started: Promise.resolve(root), exit, ...processTree(root, () => !reaped) }
}

/**
 * A start that has not reached its program by then has failed: a mount may hang, a pipe may have no
 * reader, init may be stopped. It takes 1 to 10 ms on a quiet machine. The limit is generous,
 * because a burst of starts on a loaded machine is no failure.
 */
export const UP_WITHIN_MS = 30_000

/** `take` returns a PID namespace that only this workload will use. */
export function startInNamespace(
  spec: WorkloadSpec,
  take: () => Namespace,
  upWithinMs = UP_WITHIN_MS,
): ProcessHandle {
  const problem = startProblem(spec, true) ?? sizeProblem(spec)
  if (problem !== null) return neverStarted(Promise.resolve(problem))
  let namespace: Namespace
  try {
    namespace = take()
  } catch (error) {
    return neverStarted(Promise.resolve(startError(spec, error)))
  }
  namespace.run(runnerScript(spec))
  const root = { ...namespace.root, runId: spec.runId, groupOutlivesRoot: true }
  const late = killWhenLate(namespace, upWithinMs)
  const tooLate = late.then(() =>
    failed(
      `cannot start: nothing was run within ${upWithinMs / 1000} s; ` +
        'its working folder, its log or a mount of this host may not answer',
    ),
  )
  return {
    root,
    started: Promise.race([
      namespace.up.then((up) => (up ? (namespace.workload() ?? root) : null)),
      late.then(() => null),
    ]),
    // reported before the tree is gone: a process that waits in the kernel may outlast its SIGKILL
    exit: Promise.race([exitIn(namespace, spec), tooLate]),
    ...namespacedTree(root, namespace),
  }
}

async function exitIn(namespace: Namespace, spec: WorkloadSpec): Promise<Exit> {
  const [up, status] = await Promise.all([namespace.up, namespace.status])
  if (up && status !== null) return exitOf(status)
  // init could not report an end: it was killed with all the rest, or never ran
  if (status === null) {
    const { code, signal } = await namespace.ended
    if (up || signal !== null) return { code: null, signal: signal ?? 'SIGKILL', error: null }
    return failed(`cannot start: its PID namespace could not be made (unshare ended with ${code})`)
  }
  return failed(
    startProblem(spec, true) ??
      'cannot start: its working folder cannot be entered, or its log not be opened',
  )
}

/** Resolves when the namespace was not up in time; it has been killed then. */
function killWhenLate(namespace: Namespace, withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    let settled = false
    const check = (): void => {
      if (settled) return
      namespace.kill()
      resolve()
    }
    // setImmediate: a warden that was paused first reads what the namespace wrote meanwhile
    const timer = setTimeout(() => setImmediate(check), withinMs)
    void namespace.up.then(() => {
      settled = true
      clearTimeout(timer)
    })
  })
}

/** A shell reports the end by a signal as 128 + the number of the signal. */
function exitOf(code: number): Exit {
  const signal = Object.entries(constants.signals).find(
    ([, number]) => number === code - 128,
  )?.[0] as NodeJS.Signals | undefined
  return signal ? { code: null, signal, error: null } : { code, signal: null, error: null }
}

function failed(error: string): Exit {
  return { code: null, signal: null, error }
}

function neverStarted(reason: Promise<string>): ProcessHandle {
  return {
    root: null,
    started: Promise.resolve(null),
    exit: reason.then(failed),
    signalTree() {},
    treeAlive: () => false,
    close: () => Promise.resolve(),
  }
}
