/**
 * A fleet under test: real agents and workers, each agent as if on a machine of its own, and
 * workloads that stamp.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { raceDeadline } from '../host/deadline.js'
import { readProcess } from '../host/process-table.js'
import type { Lab } from './lab.js'
import { ALIVE_MS } from './judge.js'
import { hostNetwork, type HostNetwork } from './network.js'
import { killProcessesOf, signal } from './processes.js'
import type { Server } from './server.js'
import { nowMs, readLives } from './stamps.js'

export const MANNERS = ['plain', 'stubborn', 'daemon', 'shedder', 'writer'] as const
export type Manners = (typeof MANNERS)[number]

export interface FleetOptions {
  /** Of this fleet alone; below the rig's. */
  folder: string
  /** dist/cli/main.js, or a mutant's. */
  program: string
  /** workload.mjs and block-on-signal.mjs. */
  sources: string
  server: Server
  standby?: Server
  lab: Lab | null
  /**
   * Does the network of that host go through a proxy, so that it can be slow? The proxies share the
   * rig's event loop: as few as possible.
   */
  proxied(host: string): boolean
  /** Passed as --containment; undefined where this version has no such option. */
  level: string | undefined
}

/** What an agent is started with, where it differs from the usual. */
export interface Circumstance {
  state?: string
  cwd?: string
  url?: string
}

export interface Rival {
  log(): string
  /** SIGTERM, and SIGKILL where that is not enough. */
  end(): Promise<void>
}

export interface Host {
  name: string
  folder: string
  /** Where the agent keeps everything. */
  readonly state: string
  network: HostNetwork
  /** Starts the agent; nothing when it runs. What is said here counts for later starts too. */
  start(how?: Circumstance): void
  /** Another agent of this name on this machine, beside its own. */
  rival(how: Circumstance & { handOver?: boolean }): Rival
  agentPid(): number | undefined
  wardenPid(): number | undefined
  /** While set, the agent's event loop stands still. */
  block(on: boolean): void
  /** SIGKILL to everything the host runs. */
  lose(): Promise<void>
  log(): string
}

export interface Fleet {
  hosts: readonly Host[]
  server: Server
  standby: Server | undefined
  /** Where Postgres is now: after a promotion the standby. */
  primary(): Server
  /** Its server is the standby from now on. */
  moved(): void
  addHost(name: string, machine?: string): Promise<Host>
  workerPid(): number | undefined
  startWorker(): void
  stamps: string
  /** What has to run: ids of all assignments. */
  insert(
    manners: readonly Manners[],
    more?: { pinned?: string; graceMs?: number },
  ): Promise<string[]>
  assignments(): readonly string[]
  /**
   * Every assignment observed as running, exactly one instance of each alive, and that on its
   * owner. Null when so, else what is missing.
   */
  unsettled(): Promise<string | null>
  settle(patienceMs: number, label: string): Promise<number>
  stop(): Promise<void>
}

const RIVAL_GRACE_MS = 2_000
const START_ENV = ['PATH', 'HOME', 'LANG', 'TMPDIR', 'USER'] as const

/** `mooring agent --help` of that program, to know what it can be asked for. */
export function optionsOf(program: string): string {
  return execFileSync(process.execPath, [program, 'agent', '--help'], { encoding: 'utf8' })
}

export async function createFleet(options: FleetOptions): Promise<Fleet> {
  const { folder, program, sources, server, standby, lab } = options
  const stamps = join(folder, 'stamps')
  mkdirSync(stamps, { recursive: true, mode: 0o755 })
  const servers: [Server, ...Server[]] = standby ? [server, standby] : [server]
  const children = new Set<ChildProcess>()
  const hosts: Host[] = []
  const wanted: string[] = []
  let primary = server
  let worker: ChildProcess | undefined

  function launch(
    prefix: readonly string[],
    args: readonly string[],
    cwd: string,
    env: Record<string, string>,
    logFile: string,
  ): ChildProcess {
    const log = openSync(logFile, 'a')
    const argv = [...prefix, process.execPath, program, ...args, '--stop-on-stdin-end']
    const inherited = Object.fromEntries(
      START_ENV.flatMap((name) =>
        process.env[name] === undefined ? [] : [[name, process.env[name]]],
      ),
    )
    // its stdin ends with us, however we end
    const child = spawn(argv[0]!, argv.slice(1), {
      cwd,
      env: { ...inherited, ...env },
      stdio: ['pipe', log, log],
    })
    closeSync(log)
    child.on('error', () => {})
    child.stdin?.on('error', () => {})
    children.add(child)
    child.once('exit', () => children.delete(child))
    return child
  }

  async function addHost(name: string, machine = name): Promise<Host> {
    const here = join(folder, 'hosts', machine)
    const as = { state: join(here, 'state'), cwd: here, url: undefined as string | undefined }
    let rivals = 0
    mkdirSync(as.state, { recursive: true })
    const network = await hostNetwork(lab, servers, options.proxied(name))
    writeFileSync(join(stamps, `url.${name}`), network.url)
    const blockFile = join(here, 'block')
    let child: ChildProcess | undefined
    const running = (): ChildProcess | undefined =>
      child && child.exitCode === null && child.signalCode === null ? child : undefined
    const launchAgent = (
      { state, cwd, url }: typeof as,
      logFile: string,
      more: readonly string[] = [],
    ): ChildProcess => {
      const args = [
        'agent',
        '--name',
        name,
        '--allow-exec',
        ...(process.getuid?.() === 0 ? ['--workload-user', 'root'] : []),
        ...(options.level ? ['--containment', options.level] : []),
        ...more,
      ]
      const env = {
        DATABASE_URL: url ?? network.url,
        MOORING_STATE_DIR: relative(cwd, state),
        NODE_OPTIONS: `--import=${join(sources, 'block-on-signal.mjs')}`,
        FAULTS_BLOCK: blockFile,
      }
      return launch(network.prefix, args, cwd, env, logFile)
    }
    const host: Host = {
      name,
      folder: here,
      get state() {
        return as.state
      },
      network,
      start(how = {}) {
        if (running()) return
        Object.assign(as, how)
        child = launchAgent(as, join(here, 'agent.log'))
      },
      rival({ handOver, ...how }) {
        const file = join(here, `rival-${++rivals}.log`)
        const rival = launchAgent({ ...as, ...how }, file, handOver ? ['--handover'] : [])
        const gone = new Promise<void>((resolve) => rival.once('exit', () => resolve()))
        return {
          log: () => (existsSync(file) ? readFileSync(file, 'utf8') : ''),
          async end() {
            rival.kill('SIGTERM')
            await raceDeadline(RIVAL_GRACE_MS, gone, () => void rival.kill('SIGKILL'))
            await gone
          },
        }
      },
      agentPid: () => running()?.pid,
      wardenPid() {
        try {
          const { pid, start_ticks } = JSON.parse(
            readFileSync(join(as.state, 'agents', name, 'warden.json'), 'utf8'),
          ) as { pid: number; start_ticks?: number }
          const found = readProcess(pid)
          return found && (start_ticks === undefined || found.startTicks === start_ticks)
            ? pid
            : undefined
        } catch {
          return undefined
        }
      },
      block(on) {
        const pid = running()?.pid
        if (on && pid) {
          writeFileSync(`${blockFile}.${pid}`, '')
          signal(pid, 'SIGUSR1')
        } else if (pid) rmSync(`${blockFile}.${pid}`, { force: true })
      },
      async lose() {
        if (await network.killAll()) return
        signal(host.wardenPid(), 'SIGKILL')
        await killProcessesOf(here)
      },
      log: () =>
        existsSync(join(here, 'agent.log')) ? readFileSync(join(here, 'agent.log'), 'utf8') : '',
    }
    hosts.push(host)
    return host
  }

  function startWorker(): void {
    if (worker && worker.exitCode === null && worker.signalCode === null) return
    const url = standby
      ? server
          .url('at')
          .replace(`at:${server.port}`, `127.0.0.1:${server.port},127.0.0.1:${standby.port}`)
      : server.url('127.0.0.1')
    worker = launch([], ['worker'], folder, { DATABASE_URL: url }, join(folder, 'worker.log'))
  }

  async function unsettled(): Promise<string | null> {
    const rows = await withDeadline(
      primary.sql<
        { assignment_id: string; node: string | null; epoch: string; run_state: string | null }[]
      >`
      select p.assignment_id, p.node, p.epoch, p.run_state from mooring.placement p`,
      2_000,
    )
    const silent = await withDeadline(
      primary.sql<{ node: string }[]>`
        select s.node
          from mooring.node_status s
         where s.health <> 'HEALTHY'
            or s.beat_age > (select 2 * t.beat_interval + '100 ms' from mooring.setting t)`,
      2_000,
    )
    if (silent.length > 0 || rows.length < wanted.length)
      return `${silent.map(({ node }) => node).join(', ')} is silent`
    const now = nowMs()
    const lives = readLives(stamps).filter(({ lastMs }) => lastMs > now - ALIVE_MS)
    for (const id of wanted) {
      const row = rows.find(({ assignment_id }) => assignment_id === id)
      if (!row?.node || row.run_state !== 'running')
        return (
          `assignment ${id} is ${row?.run_state ?? 'not observed'} on ` +
          `${row?.node ?? 'no node'}`
        )
      const copies = new Set(
        lives.filter(({ assignment }) => assignment === id).map(({ copy }) => copy),
      )
      const here = lives.some(
        (life) =>
          life.assignment === id &&
          life.role === 'main' &&
          life.node === row.node &&
          life.epoch === BigInt(row.epoch),
      )
      if (copies.size !== 1 || !here)
        return (
          `assignment ${id} has ${copies.size} living copies, ${here ? 'one' : 'none'} ` +
          `of them on ${row.node}`
        )
    }
    return null
  }

  return {
    hosts,
    server,
    standby,
    addHost,
    stamps,
    startWorker,
    unsettled,
    primary: () => primary,
    moved() {
      if (standby) primary = standby
    },
    workerPid: () =>
      worker && worker.exitCode === null && worker.signalCode === null ? worker.pid : undefined,
    async insert(manners, { pinned, graceMs } = {}) {
      const made: string[] = []
      for (const how of manners) {
        const name = `${how}-${wanted.length + made.length + 1}`
        const args = primary.sql.json([join(sources, 'workload.mjs')])
        const env = primary.sql.json({ FAULTS_FOLDER: stamps, FAULTS_MANNERS: how })
        const grace = `${graceMs ?? (how === 'plain' ? 1_000 : 400)} ms`
        const [row] = await primary.sql<{ id: string }[]>`
          insert into mooring.deployment (name, command, args, env, stop_grace, pinned_node)
          values (${name}, ${process.execPath}, ${args}, ${env}, ${grace}, ${pinned ?? null})
          returning id`
        const ids = await primary.sql<
          { id: string }[]
        >`select a.id from mooring.assignment a where a.deployment_id = ${row!.id}`
        made.push(...ids.map(({ id }) => id))
      }
      wanted.push(...made)
      return made
    },
    assignments: () => wanted,
    async settle(patienceMs, label) {
      const began = performance.now()
      for (let missing: string | null = null; ; await pause(100)) {
        try {
          missing = await unsettled()
          if (missing === null) return performance.now() - began
        } catch (error) {
          missing = (error as Error).message
        }
        if (performance.now() - began > patienceMs) throw new NotSettled(`${label}: ${missing}`)
      }
    },
    async stop() {
      for (const host of hosts) await host.lose()
      for (const child of children) child.kill('SIGKILL')
      await killProcessesOf(folder)
      await Promise.all(hosts.map((host) => host.network.close()))
    },
  }
}

/** Not everything runs exactly once although there was time enough. */
export class NotSettled extends Error {
  override readonly name = 'NotSettled'
}

/** The driver has none of its own, and a server that is stopped answers nothing. */
export async function withDeadline<T>(work: PromiseLike<T>, ms: number): Promise<T> {
  return await raceDeadline(ms, work, () => {
    throw new Error(`the database did not answer within ${ms} ms`)
  })
}
