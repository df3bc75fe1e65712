/**
 * The agent of a host: registers the node, beats, runs what the node owns, and stops it in time when it may not any more.
 *
 * Its life is a row of sessions, each made from nothing and thrown away whole (session.ts). It ends only when it is told to: by stop(), which
 * leaves nothing running and nothing owned; by handOver(), which leaves everything running for the next agent of this name; or by kill(). What it runs is
 * run by its warden, which outlives it where it ends in any other way.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { committedMigrations } from '../postgres/migrate/committed-migrations.js'
import type { AgentConfig } from './config.js'
import { createAgentDb } from './session/verbs.js'
import { type NodeDescription } from './rows.js'
import { takeFolder } from './folder-lock.js'
import { readLastSession, writeLastSession } from '../state-folder/session-file.js'
import { pause } from '../host/waiting.js'
import { register } from './session/register.js'
import { createBackoff } from '../host/backoff.js'
import { describeError } from '../postgres/errors.js'
import { createSession, type Session } from './session/session.js'
import { createSupervisor } from './supervisor/supervisor.js'
import { createUsageSampler } from './supervisor/usage.js'
import { packageVersion } from '../host/package-version.js'
import { attachWarden, type WardenClient } from './warden/client.js'
import type { ContainmentLevel } from './warden/containment.js'
import type { ManagedProcess } from './warden/process-runner.js'

export interface Agent {
  /** Takes over, or ends, what an earlier life of this agent left running, then returns; registering is tried for ever in the background. */
  start(): Promise<void>
  /** Graceful: every process is stopped with its own grace, then the node leaves. Resolves when nothing is left. Idempotent, legal before start. */
  stop(): Promise<void>
  /** Ends the agent and nothing else: what it runs goes on for the next agent of this name, which has until the leases end to come. Resolves as `done`. */
  handOver(): Promise<void>
  /** For the second signal: SIGKILL to every process tree, connections dropped, nothing said to the database. */
  kill(): void
  /** Resolves when the agent has stopped. Rejects when it cannot go on: its state folder is unusable, or the database refuses its name or trust pattern. */
  readonly done: Promise<void>
}

export interface AgentDependencies {
  log: Logger
  /** What node runs as its warden, where that is not beside this file. */
  wardenProgram?: string
}

/** Between the end of a session and the next registration. */
const NEW_SESSION_MS = { first: 200, max: 5_000 }
/** A session that lasted so long was a good one. */
const SETTLED_MS = 60_000

export function createAgent(
  config: AgentConfig,
  { log: parentLog, wardenProgram }: AgentDependencies,
): Agent {
  const log = parentLog.child({ node: config.name })
  const folder = join(config.stateDir, 'agents', config.name)
  const stopping = new AbortController()
  const handingOver = new AbortController()
  const ending = AbortSignal.any([stopping.signal, handingOver.signal])
  let current: Session | null = null
  /** What an earlier agent left with the warden: taken over by the first session, whatever becomes of it. */
  let inherited: readonly ManagedProcess[] = []
  let drop: () => void = () => {}
  let started: Promise<void> | null = null
  let settle: { resolve(): void; reject(error: unknown): void } = { resolve() {}, reject() {} }
  const done = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject }
  })
  // whoever does not look at done still hears of it from start() or stop()
  done.catch(() => {})

  async function start(): Promise<void> {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      const release = await takeFolder(folder, { handOver: config.handOver, log }, ending)
      if (release === null) return settle.resolve()
      const warden = await attach().catch((error: unknown) => {
        release()
        throw error
      })
      live(warden).finally(release).then(settle.resolve, settle.reject)
    } catch (error) {
      settle.reject(error)
      throw error
    }
  }

  const attach = (): Promise<WardenClient> =>
    attachWarden({
      folder,
      log,
      ...(config.containment && { containment: config.containment }),
      ...(wardenProgram && { program: wardenProgram }),
    })

  async function live(warden: WardenClient): Promise<void> {
    const sampler = createUsageSampler({ stateDir: folder })
    const backoff = createBackoff(NEW_SESSION_MS.first, NEW_SESSION_MS.max)
    const schemaVersion = committedMigrations().length
    inherited = warden.inherited
    try {
      while (!ending.aborted) {
        if (warden.lost.aborted) {
          try {
            // waits for the end of everything the lost one ran
            warden = await attach()
          } catch (error) {
            log.error(
              { event: 'warden_failed', ...describeError(error) },
              'no warden can be started, so nothing can run here; trying again until one can',
            )
            await pause(backoff.nextMs(), ending)
            continue
          }
          inherited = []
        }
        const db = createAgentDb({ databaseUrl: config.databaseUrl, node: config.name })
        drop = db.close
        const beganMs = performance.now()
        try {
          const registered = await register(
            {
              db,
              description: describe(config, warden.containment),
              replaces: readLastSession(folder),
              schemaVersion,
              log,
            },
            ending,
          )
          if (registered === null) break
          writeLastSession(folder, registered.session)
          log.info(
            {
              event: 'registered',
              session: registered.session,
              containment: warden.containment,
              ...registered.registration,
            },
            'registered',
          )
          current = createSession({
            ...registered,
            config,
            db,
            warden,
            folder,
            createSupervisor: (events) =>
              createSupervisor({
                node: config.name,
                stateDir: folder,
                host: warden,
                inherited,
                trusts: config.trust === null ? null : new RegExp(config.trust),
                allowExec: config.allowExec,
                allowScripts: config.allowScripts,
                log,
                ...events,
              }),
            sample: (pids) => sampler.sample([...pids, warden.pid]),
            log,
          })
          const end = await current.run({ stop: stopping.signal, handOver: handingOver.signal })
          if (end === 'left') return
          if (end === 'handed_over') {
            log.info(
              { event: 'handed_over', warden_pid: warden.pid },
              'this agent ends; what it ran goes on for the next one of its name',
            )
            return
          }
          inherited = []
        } finally {
          current = null
          db.close()
        }
        if (performance.now() - beganMs > SETTLED_MS) backoff.reset()
        await pause(backoff.nextMs(), ending)
      }
      // told to stop before anything was taken over
      if (stopping.signal.aborted)
        await Promise.all(
          inherited.map((process) => {
            process.end(process.about.stop_grace_ms)
            return process.gone
          }),
        )
    } finally {
      await warden.close()
    }
  }

  return {
    start: () => (started ??= ending.aborted ? Promise.resolve() : start()),
    async stop() {
      stopping.abort()
      if (started === null) settle.resolve()
      await done
    },
    async handOver() {
      handingOver.abort()
      if (started === null) settle.resolve()
      await done
    },
    kill() {
      stopping.abort()
      current?.kill()
      for (const process of inherited) process.end(0)
      drop()
    },
    done,
  }
}

function describe(config: AgentConfig, containment: ContainmentLevel): NodeDescription {
  return {
    node: config.name,
    trusts: config.trust,
    drivers: config.allowExec ? ['npm', 'exec'] : ['npm'],
    labels: config.labels,
    max_assignments: config.maxAssignments,
    agent_base_url: config.agentBaseUrl,
    gateway_base_url: config.gatewayBaseUrl,
    version: packageVersion(),
    containment,
  }
}
