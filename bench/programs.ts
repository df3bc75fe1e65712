/**
 * Hosts and workers as a user has them: `mooring agent` and `mooring worker` as processes of their
 * own.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { raceDeadline } from '../host/deadline.js'
import { addDescendants, processTable, type Process } from '../host/process-table.js'
import { signalProcess } from '../agent/warden/process-tree.js'

export interface Program {
  /** SIGTERM, and SIGKILL for everything it started when it does not end. */
  stop(): Promise<void>
  /** The program and everything it started, at once: a host that loses power. */
  die(): Promise<void>
  /** SIGKILL to the program alone. */
  kill(): Promise<void>
}

export interface Host {
  /** Resolves when the node is registered. Custom commands may run there. */
  agent(name: string): Promise<Program>
  /** Resolves when it takes jobs. */
  worker(): Promise<Program>
  /** A folder that is gone with the host. */
  folder: string
  stop(): Promise<void>
}

const MAIN = join(import.meta.dirname, '..', 'cli', 'main.js')
/** Workloads write into folders of the benchmark. */
const AS_OWN_USER = process.getuid?.() === 0 ? ['--workload-user', 'root'] : []
const START_MS = 20_000
const STOP_MS = 15_000

export function createHost(databaseUrl: string): Host {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-bench-'))
  const programs: Program[] = []

  async function start(args: readonly string[], readyEvent: string): Promise<Program> {
    // its stdin ends with us, however we end
    const child = spawn(process.execPath, [MAIN, ...args, '--stop-on-stdin-end'], {
      env: environment(databaseUrl, folder),
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    const program = programOf(child)
    programs.push(program)
    await said(child, `"event":"${readyEvent}"`, args.join(' '))
    return program
  }

  return {
    folder,
    agent: (name) =>
      start(
        ['agent', '--name', name, '--trust', '^pkg', '--allow-exec', ...AS_OWN_USER],
        'registered',
      ),
    worker: () => start(['worker'], 'worker_started'),
    async stop() {
      await Promise.all(programs.map((program) => program.stop()))
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

function environment(databaseUrl: string, folder: string): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG, TMPDIR, USER } = process.env
  return { PATH, HOME, LANG, TMPDIR, USER, DATABASE_URL: databaseUrl, MOORING_STATE_DIR: folder }
}

function programOf(child: ChildProcess): Program {
  const gone = new Promise<void>((resolve) =>
    child.once('exit', () => resolve()).once('error', () => resolve()),
  )
  const tree = (): Process[] => {
    const table = processTable()
    const root = table.get(child.pid ?? -1)
    const members = new Map<number, Process>(root ? [[root.pid, root]] : [])
    addDescendants(members, table)
    return [...members.values()]
  }
  // the agent first: it must not see its processes end and start them again
  const die = async (): Promise<void> => {
    for (const process of tree()) signalProcess(process, 'SIGKILL')
    await gone
  }
  return {
    die,
    async kill() {
      child.kill('SIGKILL')
      await gone
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await raceDeadline(STOP_MS, gone, die)
    },
  }
}

/** A log line is a fact, event name first. */
function said(child: ChildProcess, text: string, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let heard = ''
    const timer = setTimeout(
      () =>
        reject(
          new Error(`${what} did not say ${text} within ${START_MS} ms:\n${heard.slice(-2_000)}`),
        ),
      START_MS,
    )
    child.stderr?.on('data', (chunk: Buffer) => {
      // read on for ever, or the pipe fills up and the program stands still
      if (heard.length < 64_000) heard += chunk.toString('utf8')
      if (heard.includes(text)) {
        clearTimeout(timer)
        resolve()
      }
    })
    child.once('error', reject).once('exit', (code) => {
      clearTimeout(timer)
      reject(new Error(`${what} ended with ${code}:\n${heard.slice(-2_000)}`))
    })
  })
}
