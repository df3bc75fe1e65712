/**
 * A cell: a PID namespace in which a shell waits for the order by which it becomes the one workload the cell is for.
 *
 *     warden ── setpriv ──► unshare ──► init (sh, PID 1 in there) ── setsid ──► runner (sh) ── exec ──► the workload
 *        │      PDEATHSIG    kill-child                                           ▲
 *        └────────────────────────────────────────────────────────────────────────┘ stdin: the order, once.   Back, on descriptor 3: ready, up, how it ended
 *
 * Making one takes several times as long as its workload's start, so a warden keeps some ready (cells.ts). One that is made when it is wanted is no
 * other: its order waits in the pipe until it stands. It runs one workload and is never used again.
 *
 * `init` is there because PID 1 gets no signal it has no handler for, SIGTERM above all, and has to reap orphans. It stays when the workload has ended: its own end is that of
 * everything in there. The runner reads a script, so the environment of the workload is on no command line. It leads a session and a process group, as a workload does at the other
 * levels: what signals its own group does not meet unshare, which would die of it and take all with it. Exit codes above 128 are what a shell makes of signals, and are read back as such.
 * When the warden ends the runner reads the end of its stdin, should PDEATHSIG have come too early to be set.
 */
import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { childrenOf, readProcess } from '../../host/process-table.js'
import type { StartedProcess } from './host.js'
import type { Command } from './start-errors.js'

export interface Cell {
  /** unshare: leads the process group that init is in too. */
  readonly root: StartedProcess
  /** As long as that can be told; also while it is ending, which it does last. */
  init(): StartedProcess | null
  /** Its runner has said that it waits. */
  stands(): boolean
  /** Nobody has killed or stopped it meanwhile; its workload may have ended. */
  lives(): boolean
  /** Once. */
  give(order: string): void
  /** What was ordered; null when it has ended. */
  workload(): StartedProcess | null
  /** Resolves with true when the program is about to be run, with false when that will not be. */
  readonly up: Promise<boolean>
  /** Of the workload, as a shell tells it; null when that cannot be told any more. */
  readonly status: Promise<number | null>
  /** Of the root, after everything it said was heard. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** SIGKILL to all that is in it. */
  kill(): void
}

export interface OrderSpec extends Command {
  mark: string
  /** Appended to; null is nowhere. Must be there, and be a file: a shell's redirection creates, follows links, and waits for the reader of a pipe. */
  logFile: string | null
}

/**
 * Names that a shell keeps for itself: it would not take the value, or give another (tried with dash, bash 5.2, busybox; the last three of those with BASH_ are of other versions). Also all
 * that are no names to it. Each by its full name: what goes past the shell is on a command line for a moment, where every user of the host may read it.
 */
const NOT_FOR_SHELL = new RegExp(
  `^(${[
    '_|OPTIND|LINENO|E?UID|PPID|S?RANDOM|SECONDS|EPOCHSECONDS|EPOCHREALTIME|HISTCMD|GROUPS|FUNCNAME|DIRSTACK|PIPESTATUS|SHELLOPTS|SHLVL',
    'BASHOPTS|BASHPID|BASH_(ALIASES|ARGC|ARGV|CMDS|COMMAND|LINENO|SOURCE|SUBSHELL|VERSINFO|REMATCH|MONOSECONDS|TRAPSIG)',
  ].join('|')})$|^(?![A-Za-z_]\\w*$)`,
)

/**
 * What the runner of a cell is told, as one line of sh that says `up` when nothing but the program itself is left to be run. cd comes first: the shell notes where it
 * was in the environment. Descriptor 3 is closed with the last step, and the shell's own stdin is not the workload's.
 */
export function orderOf({ argv, cwd, env, mark, logFile }: OrderSpec): string {
  const all = Object.entries({ ...env, MOORING_RUN: mark })
  const assign = ([name, value]: [string, string]): string => `${name}=${quote(value)}`
  const exported = all.filter(([name]) => !NOT_FOR_SHELL.test(name)).map(assign)
  const odd = all
    .filter(([name]) => NOT_FOR_SHELL.test(name))
    .map(([name, value]) => quote(`${name}=${value}`))
  const program = [...(odd.length > 0 ? ['/usr/bin/env', ...odd] : []), ...argv.map(quote)].join(
    ' ',
  )
  const output = logFile === null ? '>/dev/null' : `>>${quote(logFile)}`
  return `cd -- ${quote(cwd)} && unset PWD OLDPWD SHLVL && set -- ${BASH_AGAIN} && export ${exported.join(' ')} && exec </dev/null ${output} 2>&1 && echo up >&3 && exec "$@" ${program} 3>&-; exit\n`
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** bash counts SHLVL down in what it execs, and makes it where there is none. */
const BASH_AGAIN = '${BASH_VERSION:+/usr/bin/env -u SHLVL}'

/** To be run as PID 1. It reads nothing before the runner has ended, and then waits for the end of its stdin. */
export function initOf(sh: string, setsid: string): string[] {
  return [
    sh,
    '-c',
    '"$1" "$0" -s; status=$?; echo $status >&3; read -r rest; exit $status',
    sh,
    setsid,
  ]
}

/** Throws where this host has no room for another process now; some errors come later, as the end of it. */
export function makeCell(wrapper: readonly string[], mark: string): Cell {
  const [program, ...args] = wrapper
  // its stderr is nobody's: a shell writes "Terminated" there
  const child = spawn(program!, args, {
    cwd: '/',
    env: { MOORING_RUN: mark },
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore', 'pipe'],
  })
  child.on('error', () => {})
  if (child.pid === undefined)
    throw Object.assign(new Error('no cell could be made'), { code: 'EAGAIN' })
  const root = { pid: child.pid, startTicks: readProcess(child.pid)?.startTicks ?? null }
  const orders = child.stdin as Writable
  let held = true
  let given = false
  let stands = false
  let init: StartedProcess | null = null
  let runner: StartedProcess | null = null
  let said = ''
  let onUp: (up: boolean) => void = () => {}
  let onStatus: (status: number | null) => void = () => {}
  const up = new Promise<boolean>((resolve) => {
    onUp = resolve
  })
  const status = new Promise<number | null>((resolve) => {
    onStatus = resolve
  })
  const ended = new Promise<Awaited<Cell['ended']>>((resolve) => {
    child.once('exit', () => {
      held = false
    })
    child.once('close', (code, signal) => {
      onUp(false)
      onStatus(null)
      resolve({ code, signal })
    })
  })
  orders.on('error', () => {})
  orders.write('echo ready >&3\n')
  ;(child.stdio[3] as Readable)
    .setEncoding('latin1')
    .on('error', () => {})
    .on('data', (text: string) => {
      said += text
      const found = /^ready\n(up\n)?(?:(\d+)\n)?/.exec(said)
      if (found !== null && !stands) {
        stands = true
        runner = firstChildOf(findInit())
      }
      if (found?.[1] !== undefined) onUp(true)
      if (found?.[2] === undefined) return
      onUp(false)
      onStatus(Number(found[2]))
    })
  /** Not reaped, the root's number is its own, and its child what it started. */
  const findInit = (): StartedProcess | null => (init ??= held ? firstChildOf(root) : null)
  const kill = (pid: number | undefined): void => {
    try {
      if (pid !== undefined && held) process.kill(pid, 'SIGKILL')
    } catch {
      // gone
    }
  }
  return {
    root,
    init: findInit,
    stands: () => stands,
    lives: () =>
      held && isThere(root) && (!stands || (isAwake(init) && (given || isAwake(runner)))),
    workload: () => (isThere(runner) ? runner : null),
    give(order) {
      given = true
      orders.write(order)
    },
    up,
    status,
    ended,
    kill() {
      // looked for now: a number noted down may be another's
      kill(childrenOf(root.pid)[0])
      kill(root.pid)
    },
  }
}

function isThere(process: StartedProcess | null): boolean {
  return process !== null && readProcess(process.pid)?.startTicks === process.startTicks
}

function isAwake(process: StartedProcess | null): boolean {
  return isThere(process) && !readProcess(process!.pid)?.stopped
}

function firstChildOf(parent: StartedProcess | null): StartedProcess | null {
  const pid = parent === null ? undefined : childrenOf(parent.pid)[0]
  return pid === undefined ? null : readProcess(pid)
}
