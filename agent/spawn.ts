/**
 * The one place that starts workloads and signals them.
 *
 * Promises: when `start` returns the process has been started or could not be (about a millisecond); what was started leads a session and a process group
 * of its own; nothing is thrown and nothing rejects; the sentence about a failed start holds none of the environment's values. A process that cannot be
 * proven to be of the tree is never signalled. Decides nothing: who is stopped, and when, is the supervisor's.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { statSync } from 'node:fs'
import { hasProc, membersOf, readProcess } from './process-table.js'
import type { Process, Seen, TreeRoot } from './process-table.js'

export interface SpawnSpec {
  /** argv[0] is the program: a path, or a name looked for in the PATH of `env`. No shell reads it. */
  argv: readonly string[]
  cwd: string
  /** Complete: nothing is added but MOORING_RUN. */
  env: Readonly<Record<string, string>>
  /** File descriptor that stdout and stderr go to, or null for nowhere. Stays the caller's to close. */
  logFd: number | null
  /** Value of MOORING_RUN, unique to this start: everything it starts can be found by it. */
  mark: string
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why it could not be started at all; null when it was. */
  error: string | null
}

export interface ProcessTree {
  /** To all of the tree that is alive, wherever it went. */
  signalTree(signal: NodeJS.Signals): void
  /** Is anything of the tree alive? */
  treeAlive(): boolean
}

export interface ProcessHandle extends ProcessTree {
  /** Null when it could not be started; `exit` says why. */
  readonly pid: number | null
  readonly startTicks: number | null
  /** Of the process itself; others of its tree may live on. */
  readonly exit: Promise<Exit>
}

export function start(spec: SpawnSpec): ProcessHandle {
  const unfit = unfitFor(spec)
  if (unfit !== null) return neverStarted(Promise.resolve(unfit))
  const [program, ...args] = spec.argv
  const output = spec.logFd ?? 'ignore'
  let child: ChildProcess
  try {
    child = spawn(program!, args, { cwd: spec.cwd, env: { ...spec.env, MOORING_RUN: spec.mark }, detached: true, shell: false, stdio: ['ignore', output, output] })
  } catch (error) {
    // E2BIG and other rare ones are thrown; ENOENT and its like arrive as an event.
    return neverStarted(Promise.resolve(sentence(spec, error)))
  }
  if (child.pid === undefined) {
    return neverStarted(new Promise(resolve => child.once('error', error => resolve(sentence(spec, error)))))
  }

  // After a start only a failed kill or message is told by 'error', and neither is asked of Node; unhandled it would end the agent.
  child.on('error', () => {})
  let reaped = false
  const exit = new Promise<Exit>(resolve => {
    child.once('exit', (code, signal) => {
      reaped = true
      resolve({ code, signal, error: null })
    })
  })
  const root = { pid: child.pid, startTicks: readProcess(child.pid)?.startTicks ?? null, mark: spec.mark, groupOutlivesRoot: true }
  return { pid: root.pid, startTicks: root.startTicks, exit, ...processTree(root, () => !reaped) }
}

/** `rootHeld`: the root has not been waited for yet, so its number cannot belong to anything else. */
export function processTree(root: TreeRoot, rootHeld: () => boolean): ProcessTree {
  const seen: Seen = new Map()
  return {
    signalTree(signal) {
      // Looked for before anything is signalled: what the leader started in another session is lost sight of when the leader ends.
      const members = membersOf(root, seen)
      // The group in one call, which no fork can escape.
      const groupDone = (rootHeld() || !hasProc) && signalGroup(root.pid, signal)
      for (const p of members) {
        if (!(groupDone && p.pgid === root.pid)) signalProcess(p, signal)
      }
    },
    treeAlive() {
      if (rootHeld()) return true
      return hasProc ? membersOf(root, seen).length > 0 : signalGroup(root.pid, 0)
    },
  }
}

/** Only when it is still the process that was looked at. */
export function signalProcess(p: Process, signal: NodeJS.Signals): void {
  if (readProcess(p.pid)?.startTicks !== p.startTicks) return
  try {
    process.kill(p.pid, signal)
  } catch {
    // Gone, or of another user: the next look tells.
  }
}

function signalGroup(pgid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pgid, signal)
    return true
  } catch {
    return false
  }
}

function neverStarted(reason: Promise<string>): ProcessHandle {
  return { pid: null, startTicks: null, exit: reason.then(error => ({ code: null, signal: null, error })), signalTree() {}, treeAlive: () => false }
}

/** Node refuses these too, but quotes the offending value, which may be a secret. */
function unfitFor(spec: SpawnSpec): string | null {
  const [program, ...args] = spec.argv
  if (program === undefined || program === '') return 'cannot start: the command is empty'
  if (program.includes('\0')) return 'cannot start: the command contains a NUL character'
  const argument = args.findIndex(value => value.includes('\0'))
  if (argument >= 0) return `cannot start: argument ${argument + 1} contains a NUL character`
  for (const [name, value] of Object.entries(spec.env)) {
    if (name === '' || /[\0=]/.test(name)) return 'cannot start: the name of an environment variable is empty or contains NUL or ='
    if (value.includes('\0')) return `cannot start: environment variable ${name} contains a NUL character`
  }
  return null
}

function sentence(spec: SpawnSpec, error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error'
  const program = JSON.stringify(spec.argv[0]!.slice(0, 200))
  switch (code) {
    case 'ENOENT':
      if (!statSync(spec.cwd, { throwIfNoEntry: false })?.isDirectory()) return 'cannot start: its working folder is gone (ENOENT)'
      if (/\s/.test(spec.argv[0]!)) return `cannot start: there is no program ${program} (ENOENT); a command is one program and no shell reads it, arguments belong in args`
      return `cannot start: there is no program ${program} on this host, or the interpreter it names is missing (ENOENT)`
    case 'EACCES': return `cannot start: ${program} is not an executable file (EACCES)`
    case 'E2BIG': return 'cannot start: arguments and environment are larger than this host allows (E2BIG; a single value may have 128 KiB)'
    case 'EAGAIN': case 'ENOMEM': case 'EMFILE': case 'ENFILE': return `cannot start: this host has no room for another process now (${code})`
    default: return `cannot start ${program} (${code})`
  }
}
