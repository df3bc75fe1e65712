/**
 * The agent of a host: registers the node, beats, runs what the node owns, and stops it in time when it may not any more.
 *
 * Its life is a row of sessions, each made from nothing and thrown away whole (session.ts). It ends only when it is told to: by stop(), which
 * leaves nothing running and nothing owned, or by kill().
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { committedMigrations } from '../cli/committed-migrations.js'
import type { AgentConfig } from './config.js'
import { createAgentDb, type NodeDescription } from './db.js'
import { killLeftovers } from './leftovers.js'
import { pause } from './pause.js'
import { register } from './register.js'
import { createBackoff } from './retry.js'
import { createSession, type Session } from './session.js'
import { createSupervisor } from './supervisor.js'
import { createUsageSampler } from './usage.js'
import { packageVersion } from './version.js'

export interface Agent {
  /** Ends what an earlier life of this agent left running, then returns; registering is tried for ever in the background. */
  start(): Promise<void>
  /** Graceful: every process is stopped with its own grace, then the node leaves. Resolves when nothing is left. Idempotent, legal before start. */
  stop(): Promise<void>
  /** For the second signal: SIGKILL to every process tree, connections dropped, nothing said to the database. */
  kill(): void
  /** Resolves when the agent has stopped. Rejects when it cannot go on: its state folder is unusable, or the database refuses its name or trust pattern. */
  readonly done: Promise<void>
}

export interface AgentDependencies { log: Logger }

/** Between the end of a session and the next registration. */
const NEW_SESSION_MS = { first: 200, max: 5_000 }

export function createAgent(config: AgentConfig, { log: parentLog }: AgentDependencies): Agent {
  const log = parentLog.child({ node: config.name })
  const folder = join(config.stateDir, 'agents', config.name)
  const stopping = new AbortController()
  let current: Session | null = null
  let drop: () => void = () => {}
  let started: Promise<void> | null = null
  let settle: { resolve(): void; reject(error: unknown): void } = { resolve() {}, reject() {} }
  const done = new Promise<void>((resolve, reject) => { settle = { resolve, reject } })
  // whoever does not look at done still hears of it from start() or stop()
  done.catch(() => {})

  async function start(): Promise<void> {
    try {
      mkdirSync(folder, { recursive: true })
      await killLeftovers(folder, log)
    } catch (error) {
      settle.reject(error)
      throw error
    }
    live().then(settle.resolve, settle.reject)
  }

  async function live(): Promise<void> {
    const sampler = createUsageSampler({ stateDir: folder })
    const backoff = createBackoff(NEW_SESSION_MS.first, NEW_SESSION_MS.max)
    const schemaVersion = committedMigrations().length
    while (!stopping.signal.aborted) {
      const db = createAgentDb({ databaseUrl: config.databaseUrl, node: config.name })
      drop = db.close
      try {
        const registered = await register({ db, description: describe(config), schemaVersion, log }, stopping.signal)
        if (registered === null) return
        log.info({ event: 'registered', session: registered.session, ...registered.registration }, 'registered')
        current = createSession({
          ...registered,
          config,
          db,
          createSupervisor: (report) => createSupervisor({
            node: config.name,
            stateDir: folder,
            trusts: config.trust === null ? null : new RegExp(config.trust),
            allowExec: config.allowExec,
            allowScripts: config.allowScripts,
            log,
            report,
          }),
          sample: (pids) => sampler.sample(pids),
          log,
        })
        if (await current.run(stopping.signal) === 'left') return
      } finally {
        current = null
        db.close()
      }
      await pause(backoff.nextMs(), stopping.signal)
    }
  }

  return {
    start: () => (started ??= stopping.signal.aborted ? Promise.resolve() : start()),
    async stop() {
      stopping.abort()
      if (started === null) settle.resolve()
      await done
    },
    kill() {
      stopping.abort()
      current?.kill()
      drop()
    },
    done,
  }
}

function describe(config: AgentConfig): NodeDescription {
  return {
    node: config.name,
    trusts: config.trust,
    drivers: config.allowExec ? ['npm', 'exec'] : ['npm'],
    labels: config.labels,
    max_assignments: config.maxAssignments,
    agent_base_url: config.agentBaseUrl,
    gateway_base_url: config.gatewayBaseUrl,
    version: packageVersion(),
  }
}
