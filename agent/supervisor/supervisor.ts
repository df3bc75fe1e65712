/**
 * Everything that runs on this host for one agent.
 *
 * Promises: nothing of a copy is started while anything of an earlier copy of the same assignment is alive; 'stopped' is reported only when the whole tree is
 * gone; no row value, install or process ends the agent or leaves a promise unhandled; idle, it costs no wake-ups but the log check every two seconds.
 * Never: claims, leases, SQL. What it is told is the complete set, each time, and it may be told the same as often as one likes.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Logger } from 'pino'
import { DEFAULT_BACKOFF } from './restart-backoff.js'
import type { BackoffOptions } from './restart-backoff.js'
import type { OwnedAssignment, RunReport } from '../rows.js'
import { createNpmInstaller } from '../packages/npm-install.js'
import type { NpmOptions } from '../packages/npm-command.js'
import { needed } from '../cleanup/needed.js'
import type { Needed } from '../cleanup/needed.js'
import { createLogRotation, DEFAULT_ROTATION } from '../../state-folder/log-rotation.js'
import type { RotationOptions } from '../../state-folder/log-rotation.js'
import { reconcile } from './reconcile.js'
import { createRun } from './assignment.js'
import type { Run } from './assignment.js'
import { runIdPrefix, readBootId } from '../../state-folder/process-files.js'
import type { ProcessRunner, ManagedProcess } from '../warden/process-runner.js'

export interface Supervisor {
  /**
   * Level-triggered: the complete set this node owns. Starts what is missing (with mayStart false only what this session already ran under that epoch),
   * stops what is not wanted or not listed, restarts what changed generation: old copy dead before the new one starts. Returns at once.
   */
  reconcile(owned: readonly OwnedAssignment[], options: { mayStart: boolean }): void
  /** Lease about to end: SIGTERM now, SIGKILL after graceMs; each starts again only by a later reconcile that lists it. */
  fence(assignmentIds: readonly string[], graceMs: number): number
  /** Graceful end of the agent: everything stops with its own grace. Resolves when all trees are gone; reconcile does nothing from then on. Idempotent. */
  stopAll(): Promise<void>
  /** SIGKILL to every tree before it returns; reconcile does nothing from then on. */
  killAll(): void
  /** Leaves everything as it is: a later supervisor takes it over. reconcile does nothing from then on. */
  letGo(): void
  /** How many processes run. */
  running(): number
  /** Their roots, for usage sampling. */
  pids(): number[]
  /** What of the state folder is needed where the node owns this. */
  needed(owned: readonly OwnedAssignment[]): Needed
}

export interface SupervisorDependencies {
  node: string
  /** The agent's own: `<state>/agents/<node>`. No other agent uses it at the same time. */
  stateDir: string
  /** Tested against `name@version`; null trusts no package. */
  trusts: RegExp | null
  /** Runs the processes. */
  host: ProcessRunner & { readonly runIdPrefix: string }
  /** What it runs already for this agent: taken over as it is, and stopped by the first reconcile that does not list it. */
  inherited?: readonly ManagedProcess[]
  allowExec: boolean
  allowScripts: boolean
  log: Logger
  /** Called on every change of observed state. */
  report: (report: RunReport) => void
  /** Whoever runs it is stopping it, because its lease ended there. It starts again only by a later reconcile that lists it. */
  onFenced?: (assignmentId: string) => void
  npm?: Omit<NpmOptions, 'allowScripts'>
  backoff?: Partial<BackoffOptions>
  rotation?: Partial<RotationOptions>
}

/** Far more than one host runs; forgetting one only delays its start to the end of a hold. */
const REMEMBERED_EPOCHS = 10_000

export function createSupervisor(deps: SupervisorDependencies): Supervisor {
  const { node, log } = deps
  // Workloads and npm run in other folders.
  const stateDir = resolve(deps.stateDir)
  for (const folder of ['runs', 'logs', 'packages', 'work'])
    mkdirSync(join(stateDir, folder), { recursive: true, mode: 0o700 })
  const logs = createLogRotation(stateDir, log, { ...DEFAULT_ROTATION, ...deps.rotation })
  const shared = {
    node,
    stateDir,
    log,
    logs,
    agentEnv: { ...process.env },
    host: deps.host,
    runIdPrefix: deps.host.runIdPrefix,
    bootId: readBootId(),
    trust: { trusts: deps.trusts, allowExec: deps.allowExec },
    installer: createNpmInstaller({
      packagesDir: join(stateDir, 'packages'),
      runIdPrefix: runIdPrefix(stateDir),
      log,
      npm: { ...deps.npm, allowScripts: deps.allowScripts },
    }),
    backoff: { ...DEFAULT_BACKOFF, ...deps.backoff },
    report: deps.report,
  }
  const runs = new Map<string, Run>()
  // Work that was not listed for a while, because no lease covered it, comes back under its old epoch; in a hold it must be known to have run here.
  const ranEpochs = new Map<string, string>()
  let closing = false
  let whenEmpty = (): void => {}

  const add = (id: string): Run => {
    const run = createRun(id, {
      ...shared,
      ranEpoch: ranEpochs.get(id) ?? null,
      onRan(epoch) {
        ranEpochs.delete(id)
        ranEpochs.set(id, epoch)
        const oldest = ranEpochs.keys().next().value!
        if (ranEpochs.size > REMEMBERED_EPOCHS) ranEpochs.delete(oldest)
      },
      onFenced: () => deps.onFenced?.(id),
      onGone() {
        runs.delete(id)
        if (runs.size === 0) whenEmpty()
      },
    })
    runs.set(id, run)
    return run
  }

  for (const process of deps.inherited ?? []) add(process.about.assignment_id).adopt(process)

  let stopping: Promise<void> | null = null
  const stopAll = async (): Promise<void> => {
    closing = true
    const empty = new Promise<void>((resolve) => {
      whenEmpty = resolve
    })
    for (const run of [...runs.values()]) run.close()
    if (runs.size > 0) await empty
    await logs.stop()
  }

  return {
    reconcile(owned, options) {
      if (closing) return
      const unlisted = new Set(runs.keys())
      for (const assignment of owned) {
        const id = assignment.assignment_id
        unlisted.delete(id)
        ;(runs.get(id) ?? add(id)).want(assignment, options.mayStart)
      }
      for (const id of unlisted) runs.get(id)!.want(undefined, false)
      const actions = reconcile(
        owned,
        [...runs.values()].map((run) => run.facts()),
        options,
      )
      for (const action of actions) runs.get(action.assignment_id)?.apply(action)
    },
    fence(assignmentIds, graceMs) {
      const fenced = assignmentIds.flatMap((id) => runs.get(id) ?? [])
      const alive = fenced.filter((run) => ['alive', 'ending'].includes(run.facts().phase)).length
      for (const run of fenced) run.fence(graceMs)
      return alive
    },
    stopAll: () => (stopping ??= stopAll()),
    letGo() {
      closing = true
      for (const run of [...runs.values()]) run.letGo()
      void logs.stop()
    },
    killAll() {
      closing = true
      for (const run of [...runs.values()]) run.close(0)
    },
    running: () => [...runs.values()].filter((run) => run.pid() !== null).length,
    pids: () => [...runs.values()].map((run) => run.pid()).filter((pid) => pid !== null),
    needed: (owned) =>
      needed(
        owned,
        [...runs].map(([assignment_id, run]) => ({ assignment_id, packages: run.packages() })),
      ),
  }
}
