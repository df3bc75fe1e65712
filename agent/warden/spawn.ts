/**
 * The one place that starts workloads and signals them.
 *
 * Promises: when `start` or `startInCell` returns, the process is being started or could not be; what was started is in a session and a process group of its
 * own; nothing is thrown and nothing rejects; the sentence about a failed start holds none of the environment's values. A process that cannot be
 * proven to be of the tree is never signalled. Decides nothing: who is stopped, and when, is the caller's.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { constants } from 'node:os'
import { readProcess } from '../../host/process-table.js'
import { orderOf } from './namespace.js'
import type { Cell, OrderSpec } from './namespace.js'
import type { Exit, StartedProcess } from './host.js'
import { namespacedTree, processTree } from './process-tree.js'
import type { ProcessTree } from './process-tree.js'
import { sentence, tooLarge, unfitFor } from './start-errors.js'
import type { Command } from './start-errors.js'

/** argv[0] is the program: a path, or a name looked for in the PATH of `env`; to a shell it is quoted. env is complete: nothing is added but MOORING_RUN. */
export interface SpawnSpec extends Command {
  /** File descriptor that stdout and stderr go to, or null for nowhere. Stays the caller's to close. */
  logFd: number | null
  /** Value of MOORING_RUN, unique to this start: everything it starts can be found by it. */
  mark: string
}

export interface ProcessHandle extends ProcessTree {
  /** What leads the session: the workload, or what contains it. Null when nothing could be started; `exit` says why. */
  readonly root: StartedProcess | null
  /** Resolves when the workload's program is about to be run; null when that could not be. */
  readonly started: Promise<StartedProcess | null>
  /** Of the workload itself; others of its tree may live on. */
  readonly exit: Promise<Exit>
}

/** `wrapper` is put before argv (containment.ts). */
export function start(spec: SpawnSpec, wrapper: readonly string[] = []): ProcessHandle {
  const unfit = unfitFor(spec, wrapper.length > 0)
  if (unfit !== null) return neverStarted(Promise.resolve(unfit))
  const [program, ...args] = [...wrapper, ...spec.argv]
  const output = spec.logFd ?? 'ignore'
  let child: ChildProcess
  try {
    child = spawn(program!, args, {
      cwd: spec.cwd,
      env: { ...spec.env, MOORING_RUN: spec.mark },
      detached: true,
      shell: false,
      stdio: ['ignore', output, output],
    })
  } catch (error) {
    // E2BIG and other rare ones are thrown; ENOENT and its like arrive as an event.
    return neverStarted(Promise.resolve(sentence(spec, error)))
  }
  if (child.pid === undefined) {
    return neverStarted(
      new Promise((resolve) => child.once('error', (error) => resolve(sentence(spec, error)))),
    )
  }

  // After a start only a failed kill or message is told by 'error', and neither is asked of Node; unhandled it would end the warden.
  child.on('error', () => {})
  const root = {
    pid: child.pid,
    startTicks: readProcess(child.pid)?.startTicks ?? null,
    mark: spec.mark,
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
 * What stands before a program may wait for ever: a mount that hangs, a pipe whose reader left, an init that somebody stopped. On a quiet machine it takes a millisecond, or
 * ten; generous, because a burst of starts on a loaded one has not failed.
 */
export const UP_WITHIN_MS = 30_000

/** In a PID namespace of its own. */
export function startInCell(
  spec: OrderSpec,
  take: () => Cell,
  upWithinMs = UP_WITHIN_MS,
): ProcessHandle {
  const unfit = unfitFor(spec, true) ?? tooLarge(spec)
  if (unfit !== null) return neverStarted(Promise.resolve(unfit))
  let cell: Cell
  try {
    cell = take()
  } catch (error) {
    return neverStarted(Promise.resolve(sentence(spec, error)))
  }
  cell.give(orderOf(spec))
  const root = { ...cell.root, mark: spec.mark, groupOutlivesRoot: true }
  const late = isLate(cell, upWithinMs)
  const exit = async (): Promise<Exit> => {
    const [up, status] = await Promise.all([cell.up, cell.status])
    if (up && status !== null) return exitOf(status)
    // an end that init could not tell: it was killed with all the rest, or never stood
    if (status === null) {
      const { code, signal } = await cell.ended
      if (up || signal !== null) return { code: null, signal: signal ?? 'SIGKILL', error: null }
      return {
        code: null,
        signal: null,
        error: `cannot start: its PID namespace could not be made (unshare ended with ${code})`,
      }
    }
    return {
      code: null,
      signal: null,
      error:
        unfitFor(spec, true) ??
        'cannot start: its working folder cannot be entered, or its log not be opened',
    }
  }
  const tooLate = late.then((): Exit => ({
    code: null,
    signal: null,
    error: `cannot start: nothing was run within ${upWithinMs / 1000} s; its working folder, its log or a mount of this host may not answer`,
  }))
  return {
    root,
    started: Promise.race([
      cell.up.then((up) => (up ? (cell.workload() ?? root) : null)),
      late.then(() => null),
    ]),
    // told before it is gone: what waits in the kernel may outlast its SIGKILL
    exit: Promise.race([exit(), tooLate]),
    ...namespacedTree(root, cell),
  }
}

/** Resolves when it was not up in time, and has been killed for that. */
function isLate(cell: Cell, withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    let told = false
    const look = (): void => {
      if (told) return
      cell.kill()
      resolve()
    }
    // a warden that was paused meanwhile first hears what it was told
    const timer = setTimeout(() => setImmediate(look), withinMs)
    void cell.up.then(() => {
      told = true
      clearTimeout(timer)
    })
  })
}

/** As a shell tells it: 128 + the signal's number. */
function exitOf(code: number): Exit {
  const signal = Object.entries(constants.signals).find(
    ([, number]) => number === code - 128,
  )?.[0] as NodeJS.Signals | undefined
  return signal ? { code: null, signal, error: null } : { code, signal: null, error: null }
}

function neverStarted(reason: Promise<string>): ProcessHandle {
  return {
    root: null,
    started: Promise.resolve(null),
    exit: reason.then((error) => ({ code: null, signal: null, error })),
    signalTree() {},
    treeAlive: () => false,
    close: () => Promise.resolve(),
  }
}
