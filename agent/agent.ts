/**
 * The agent of a host: registers the node, beats, runs what the node owns, and stops it in time
 * when the node may no longer run it.
 *
 * Its life is a sequence of sessions, each with new parts (session.ts). It ends in three ways:
 *   stop()      leaves nothing running and nothing owned
 *   handOver()  leaves everything running for the next agent of this name
 *   kill()      ends all processes at once and reports nothing
 * Its warden runs the processes, and outlives an agent that ends in any other way.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { committedMigrations } from '../postgres/migrate/committed-migrations.js'
import type { AgentConfig } from './config.js'
import { createNewestServer } from './session/newest-server.js'
import { createAgentDb } from './session/verbs.js'
import { type NodeDescription } from './rows.js'
import { lockFolder } from './folder-lock.js'
import { ownerMark } from '../state-folder/process-files.js'
import { readLastSession, writeLastSession } from '../state-folder/session-file.js'
import { requireOwnFolder } from '../host/users.js'
import { sleep } from '../host/waiting.js'
import { register } from './session/register.js'
import { createBackoff } from '../host/backoff.js'
import { describeError } from '../postgres/errors.js'
import { createSession, type Session } from './session/session.js'
import { createSupervisor } from './supervisor/supervisor.js'
import { createUsageSampler } from './supervisor/usage.js'
import { openFoldersTo, workloadUser, type WorkloadUser } from './workload-user.js'
import { packageVersion } from '../host/package-version.js'
import { attachWarden, type WardenClient } from './warden/client.js'
import { killLeftovers } from './warden/leftovers.js'
import type { ContainmentLevel } from './warden/containment.js'
import type { ManagedProcess } from './warden/process-runner.js'

export interface Agent {
  /**
   * Resolves when it has a warden, with the processes of an earlier agent if that left one.
   * Registering is then retried for ever in the background. After stop() it does nothing.
   */
  start(): Promise<void>
  /**
   * Graceful: stops every process with its own grace, then the node leaves. As in
   * host/lifecycle.ts, but it rejects when `done` does.
   */
  stop(): Promise<void>
  /**
   * Ends the agent alone. Its processes go on for the next agent of this name, which must come
   * before their leases end. Resolves as `done`.
   */
  handOver(): Promise<void>
  /** SIGKILL to every process tree; drops the connections and reports nothing. */
  kill(): void
  /**
   * Resolves when the agent has stopped. Rejects when it cannot go on, because its state folder is
   * unusable or the database refuses its name or trust pattern.
   */
  readonly done: Promise<void>
}

export interface AgentDependencies {
  log: Logger
  /** The program of the warden, when it is not beside this file. */
  wardenProgram?: string
}

/** Between the end of a session and the next registration. */
const NEW_SESSION_MS = { first: 200, max: 5_000 }
/** A session that lasted this long resets the back-off. */
const SETTLED_MS = 60_000

export function createAgent(
  config: AgentConfig,
  { log: parentLog, wardenProgram }: AgentDependencies,
): Agent {
  const log = parentLog.child({ node: config.name })
  const folder = join(config.stateDir, 'agents', config.name)
  const stopping = new AbortController()
  const handingOver = new AbortController()
  // AbortSignal.any() cannot leak here: it is called once, and lives as long as its sources
  const ending = AbortSignal.any([stopping.signal, handingOver.signal])
  let current: Session | null = null
  let user: WorkloadUser | null = null
  /** Processes that an earlier agent left with the warden. The first session takes them over. */
  let inherited: readonly ManagedProcess[] = []
  let dropConnections: () => void = () => {}
  let started: Promise<void> | null = null
  let settle: { resolve(): void; reject(error: unknown): void } = { resolve() {}, reject() {} }
  const done = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject }
  })
  // a caller that ignores `done` gets the error from start() or stop()
  done.catch(() => {})

  async function start(): Promise<void> {
    try {
      makeFolder(folder)
      for (const used of [config.stateDir, folder]) requireOwnFolder(used)
      user = workloadUser(config.workloadUser)
      if (user !== null)
        openFoldersTo(user, [config.stateDir, join(config.stateDir, 'agents'), folder])
      else if (process.getuid?.() === 0)
        log.warn(
          { event: 'workloads_run_as_root' },
          'workloads run as root: each can read and do what this agent can',
        )
      if (config.trust === null && !config.allowExec)
        log.warn(
          { event: 'runs_nothing' },
          'this agent trusts no package and runs no command, so nothing can run here: ' +
            "start it with --trust '^your-package@', or --allow-exec",
        )
      const unlock = await lockFolder(folder, { handOver: config.handOver, admitted, log }, ending)
      if (unlock === null) return settle.resolve()
      const warden = await attach().catch((error: unknown) => {
        unlock()
        throw error
      })
      runSessions(warden).finally(unlock).then(settle.resolve, settle.reject)
    } catch (error) {
      settle.reject(error)
      throw error
    }
  }

  /** Resolves when a registration, which is rolled back, has succeeded. It is tried until then. */
  async function admitted(): Promise<void> {
    const db = createAgentDb({
      databaseUrl: config.databaseUrl,
      node: config.name,
      newestServer: createNewestServer(folder),
    })
    try {
      await register(
        {
          db: { schemaVersion: db.schemaVersion, registerNode: db.rehearseRegistration },
          description: describe(config, config.containment ?? 'process-group'),
          replaces: readLastSession(folder),
          schemaVersion: committedMigrations().length,
          log,
        },
        ending,
      )
    } finally {
      db.close()
    }
  }

  const attach = (): Promise<WardenClient> =>
    attachWarden({
      folder,
      log,
      ...(config.containment && { containment: config.containment }),
      ...(wardenProgram && { program: wardenProgram }),
    })

  async function runSessions(warden: WardenClient): Promise<void> {
    const newestServer = createNewestServer(folder)
    const sampler = createUsageSampler({ stateDir: folder })
    const backoff = createBackoff(NEW_SESSION_MS.first, NEW_SESSION_MS.max)
    const schemaVersion = committedMigrations().length
    inherited = warden.inherited
    try {
      while (!ending.aborted) {
        if (warden.lost.aborted) {
          try {
            // waits for the end of everything that the lost warden ran
            warden = await attach()
          } catch (error) {
            log.error(
              { event: 'warden_failed', ...describeError(error) },
              'no warden can be started, so nothing can run here; retrying until one can',
            )
            await sleep(backoff.nextMs(), ending)
            continue
          }
          inherited = []
        }
        const db = createAgentDb({
          databaseUrl: config.databaseUrl,
          node: config.name,
          newestServer,
        })
        dropConnections = db.close
        const startedMs = performance.now()
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
          const owner = ownerMark(registered.registration.control_plane, config.name)
          // Only now has the database said that nothing else may run for this node. What an earlier
          // agent left, with this folder or another, must be gone before anything starts.
          await killLeftovers(folder, log, { keep: warden.runIdPrefix, owner })
          current = createSession({
            ...registered,
            config,
            db,
            warden,
            folder,
            createSupervisor: (events) =>
              createSupervisor({
                node: config.name,
                owner,
                stateDir: folder,
                user,
                runner: warden,
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
              { event: 'agent_handed_over', warden_pid: warden.pid },
              'this agent ends; its processes go on for the next agent of its name',
            )
            return
          }
          inherited = []
        } finally {
          current = null
          db.close()
        }
        if (performance.now() - startedMs > SETTLED_MS) backoff.reset()
        await sleep(backoff.nextMs(), ending)
      }
      // stopped before a session took the processes over
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
      dropConnections()
    },
    done,
  }
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(
      `the state folder ${folder} cannot be made (${code}): ` +
        'choose one that this user may write to with --state-dir',
    )
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
