import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { MAIN, ROOT } from './root.js'
import { PATIENCE_MS, waitFor } from './wait-for.js'

export interface Program {
  pid: number
  /** everything written so far */
  stdout(): string
  stderr(): string
  /** resolves when the process has ended and its output is complete */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  ended(): boolean
  kill(signal: NodeJS.Signals): void
  /** Waits for a text on stdout or stderr. */
  said(text: string | RegExp, timeoutMs?: number): Promise<void>
  /** The program and all its descendants, as a host that loses power. */
  killTree(): void
}

export interface ProgramOptions {
  databaseUrl?: string
  env?: Record<string, string>
  cwd?: string
  /** Another user to run as; only root can. */
  user?: { uid?: number; gid?: number }
}

const TAPS_OWN = [
  'NODE_OPTIONS',
  ...[
    'CWD',
    'EXCLUDE',
    'COVERAGE',
    'COV_FILES',
    'COV_EXCLUDE_FILES',
    'COV_EXCLUDE',
    'ROOT',
    'PARENT',
  ].map((name) => `_TAPJS_PROCESSINFO_${name}_`),
]

/** The warden, for a test that starts one by itself. */
export const WARDEN_PROGRAM = join(ROOT, 'dist', 'agent', 'warden', 'main.js')

/**
 * `mooring <args>` as a real process, of dist/: run `npm run build` first.
 * It and its descendants end with the test.
 */
export function mooring(t: Test, args: readonly string[], options: ProgramOptions = {}): Program {
  return program(t, process.execPath, [MAIN, ...args], options)
}

export function program(
  t: Test,
  command: string,
  args: readonly string[],
  { databaseUrl, env = {}, cwd, user }: ProgramOptions = {},
): Program {
  // tap puts a loader and exit handlers of its own into every child. `env` removes them and becomes
  // the program, with the same pid
  const child = spawn('env', [...TAPS_OWN.flatMap((name) => ['-u', name]), command, ...args], {
    ...user,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...inherited(), ...(databaseUrl ? { DATABASE_URL: databaseUrl } : {}), ...env },
    ...(cwd ? { cwd } : {}),
  })
  let stdout = ''
  let stderr = ''
  let over = false
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString('utf8')))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString('utf8')))
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>(
    (resolve, reject) => {
      child.once('error', reject)
      child.once('exit', () => (over = true))
      child.once('close', (code, signal) => resolve({ code, signal }))
    },
  )
  exited.catch(() => {})
  const pid = child.pid ?? -1
  const started = pid > 0 ? startTimeOf(pid) : undefined
  const result: Program = {
    pid,
    stdout: () => stdout,
    stderr: () => stderr,
    exited,
    ended: () => over,
    kill: (signal) => void child.kill(signal),
    killTree: () => killAll([...descendantsOf(pid), { pid, started }]),
    async said(text, timeoutMs = PATIENCE_MS) {
      await waitFor(
        () =>
          typeof text === 'string'
            ? `${stdout}${stderr}`.includes(text)
            : text.test(`${stdout}${stderr}`),
        {
          label: `${args.slice(1).join(' ')} says ${String(text)}`,
          timeoutMs,
          show: () => `${stdout}${stderr}`.slice(-4_000),
        },
      )
    },
  }
  t.teardown(async () => {
    if (!t.passing())
      t.comment(`${[command, ...args].join(' ')} (pid ${pid})\n${stdout}${stderr}`.slice(-8_000))
    if (over || pid < 0) return
    const tree = descendantsOf(pid)
    child.kill('SIGTERM')
    await waitFor(() => over, {
      label: `${args.slice(1).join(' ')} ends after SIGTERM`,
      timeoutMs: 10_000,
    }).catch(() => child.kill('SIGKILL'))
    await exited
    killAll(tree) // the same processes only: a pid that was given out again has another start time
  })
  return result
}

/**
 * A folder that ends with the test. Every process that works in it ends too, such as the orphans of
 * an agent.
 */
/** Options of an agent whose workloads are the test's user: they write where the test does. */
export const AS_OWN_USER: readonly string[] =
  process.getuid?.() === 0 ? ['--workload-user', 'root'] : []

export function tempDir(t: Test, name = 'state'): string {
  const folder = mkdtempSync(join(tmpdir(), `mooring-${name}-`))
  chmodSync(folder, 0o755) // another user may have to get in: the server, or a workload
  t.teardown(() => {
    killAll(processesIn(folder))
    removeFolder(folder)
  })
  return folder
}

/**
 * A process that still writes into the folder makes new files, such as a workload that ends after
 * its agent. The retries of rmSync do not look for new files.
 */
export function removeFolder(folder: string): void {
  for (let tries = 1; ; tries++) {
    try {
      return rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY' || tries === 50) throw error
    }
  }
}

interface Found {
  pid: number
  started: string | undefined
}

/** Whose working directory is below `folder`, by pid. */
export function processesIn(folder: string): Found[] {
  return allPids()
    .filter((pid) => {
      try {
        return `${readlinkSync(`/proc/${pid}/cwd`)}/`.startsWith(`${folder}/`)
      } catch {
        return false
      }
    })
    .map((pid) => ({ pid, started: startTimeOf(pid) }))
}

export function descendantsOf(root: number): Found[] {
  const children = new Map<number, number[]>()
  for (const pid of allPids()) {
    const parent = Number(statOf(pid)?.[1])
    children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const found: Found[] = []
  const visit = (pid: number): void => {
    for (const child of children.get(pid) ?? []) {
      found.push({ pid: child, started: startTimeOf(child) })
      visit(child)
    }
  }
  visit(root)
  return found
}

function killAll(processes: readonly Found[]): void {
  for (const { pid, started } of processes) {
    if (pid <= 1 || started === undefined || startTimeOf(pid) !== started) continue
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // ended in between
    }
  }
}

/** Fields of /proc/<pid>/stat after the name: state, parent, ... */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

const startTimeOf = (pid: number): string | undefined => statOf(pid)?.[19]

const allPids = (): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1)

/** Without what a test runner or a developer's shell would change in the program under test. */
function inherited(): NodeJS.ProcessEnv {
  const names = Object.keys(process.env).filter(
    (name) =>
      !/^(DATABASE_URL|PG[A-Z]+|NODE_OPTIONS|MOORING_\w+|TAP\w*|_TAPJS\w*|FORCE_COLOR)$/.test(
        name,
      ) || name === 'PGBINDIR',
  )
  return Object.fromEntries(names.map((name) => [name, process.env[name]]))
}
