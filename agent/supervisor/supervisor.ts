/**
 * Everything that runs on this host for one agent.
 *
 * It promises:
 *   - nothing of an assignment starts while an earlier instance of it lives;
 *   - 'stopped' is reported only when the whole process tree is gone;
 *   - no row, install or process ends the agent or leaves a promise unhandled;
 *   - an idle supervisor wakes only for the log check every two seconds.
 * It never claims, and knows neither leases nor SQL. Every call to reconcile() brings the complete
 * set, and repeating it changes nothing.
 */
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Logger } from 'pino'
import { DEFAULT_RESTART_BACKOFF } from './restart-backoff.js'
import type { RestartBackoffOptions } from './restart-backoff.js'
import type { AssignmentReport, OwnedAssignment } from '../rows.js'
import { createNpmInstaller } from '../packages/npm-install.js'
import type { NpmOptions } from '../packages/npm-command.js'
import { needed } from '../cleanup/needed.js'
import type { Needed } from '../cleanup/needed.js'
import { createLogRotation, DEFAULT_ROTATION } from '../../state-folder/log-rotation.js'
import type { RotationOptions } from '../../state-folder/log-rotation.js'
import { reconcile } from './reconcile.js'
import { superviseAssignment } from './assignment.js'
import type { SupervisedAssignment } from './assignment.js'
import { runIdPrefix, readBootId } from '../../state-folder/process-files.js'
import type { ProcessRunner, ManagedProcess } from '../warden/process-runner.js'
import { openFoldersTo, type WorkloadUser } from '../workload-user.js'

export interface Supervisor {
  /**
   * Level-triggered: `owned` is the complete set of this node. Returns at once.
   * Starts what is missing, and stops what is not wanted or not listed. A changed generation is a
   * restart: the old instance is dead before the new one starts.
   * With mayStart false it starts only what this session already ran under the same epoch.
   */
  reconcile(owned: readonly OwnedAssignment[], options: { mayStart: boolean }): void
  /**
   * The leases are about to end: SIGTERM now, SIGKILL after graceMs. Returns how many are alive.
   * Each starts again only by a later reconcile() that lists it.
   */
  fence(assignmentIds: readonly string[], graceMs: number): number
  /** Its lease is over, so that it ran here once no longer lets it start in a hold. */
  forgetRan(assignmentId: string): void
  /**
   * Stops everything, each process with its own grace. Resolves when all trees are gone.
   * reconcile() does nothing from then on. Idempotent.
   */
  stopAll(): Promise<void>
  /** SIGKILL to every tree before it returns. reconcile() does nothing from then on. */
  killAll(): void
  /** Leaves all processes to a later supervisor. reconcile() does nothing from then on. */
  detach(): void
  /** How many processes run. */
  running(): number
  /** The roots of the process trees, for usage sampling. */
  pids(): number[]
  /** What the state folder must keep when the node owns these rows. */
  needed(owned: readonly OwnedAssignment[]): Needed
}

export interface SupervisorDependencies {
  node: string
  /** Of its processes, see ownerMark(). */
  owner: string
  /** The agent's folder, `<state>/agents/<node>`. Only one agent uses it at a time. */
  stateDir: string
  /** Workloads run as this user; null: as the user of this process. */
  user: WorkloadUser | null
  /** Tested against `name@version`; null trusts no package. */
  trusts: RegExp | null
  /** Runs the processes. */
  runner: ProcessRunner & { readonly runIdPrefix: string }
  /**
   * Processes that the runner already runs for this agent. They are adopted as they are.
   * The first reconcile() stops those it does not list.
   */
  inherited?: readonly ManagedProcess[]
  allowExec: boolean
  allowScripts: boolean
  log: Logger
  /** Called on every change of observed state. */
  report: (report: AssignmentReport) => void
  /**
   * The runner is stopping this process, because its lease ended there.
   * It starts again only by a later reconcile() that lists it.
   */
  onFenced?: (assignmentId: string) => void
  npm?: Omit<NpmOptions, 'allowScripts' | 'user'>
  backoff?: Partial<RestartBackoffOptions>
  rotation?: Partial<RotationOptions>
}

/** Far more than one host runs. A forgotten epoch only delays a start to the end of a hold. */
const REMEMBERED_EPOCHS = 10_000

export function createSupervisor(deps: SupervisorDependencies): Supervisor {
  const { node, log } = deps
  // absolute, because workloads and npm run in other folders
  const stateDir = resolve(deps.stateDir)
  for (const folder of ['runs', 'logs', 'packages', 'work'])
    mkdirSync(join(stateDir, folder), { recursive: true, mode: 0o700 })
  if (deps.user !== null)
    openFoldersTo(
      deps.user,
      ['packages', 'work'].map((folder) => join(stateDir, folder)),
    )
  const logs = createLogRotation(stateDir, log, { ...DEFAULT_ROTATION, ...deps.rotation })
  const shared = {
    node,
    owner: deps.owner,
    user: deps.user,
    stateDir,
    log,
    logs,
    agentEnv: { ...process.env },
    runner: deps.runner,
    runIdPrefix: deps.runner.runIdPrefix,
    bootId: readBootId(),
    trust: { trusts: deps.trusts, allowExec: deps.allowExec },
    installer: createNpmInstaller({
      packagesDir: join(stateDir, 'packages'),
      runIdPrefix: runIdPrefix(stateDir),
      log,
      npm: { ...deps.npm, allowScripts: deps.allowScripts, user: deps.user },
    }),
    backoff: { ...DEFAULT_RESTART_BACKOFF, ...deps.backoff },
    report: deps.report,
  }
  const assignments = new Map<string, SupervisedAssignment>()
  // In a hold an assignment restarts only if it is known to have run here under the same epoch, and
  // its lease has not ended since. The leases of the session call forgetRan() when it has.
  const ranEpochs = new Map<string, string>()
  let closing = false
  let onEmpty = (): void => {}

  const add = (id: string): SupervisedAssignment => {
    const assignment = superviseAssignment(id, {
      ...shared,
      ranEpoch: ranEpochs.get(id) ?? null,
      onEpochRan(epoch) {
        ranEpochs.delete(id)
        if (epoch === null) return
        ranEpochs.set(id, epoch)
        const oldest = ranEpochs.keys().next().value!
        if (ranEpochs.size > REMEMBERED_EPOCHS) ranEpochs.delete(oldest)
      },
      onFenced: () => deps.onFenced?.(id),
      onGone() {
        assignments.delete(id)
        if (assignments.size === 0) onEmpty()
      },
    })
    assignments.set(id, assignment)
    return assignment
  }

  for (const process of deps.inherited ?? []) add(process.about.assignment_id).adopt(process)

  let stopping: Promise<void> | null = null
  const stopAll = async (): Promise<void> => {
    closing = true
    const empty = new Promise<void>((resolve) => {
      onEmpty = resolve
    })
    for (const each of [...assignments.values()]) each.stop()
    if (assignments.size > 0) await empty
    await logs.stop()
  }

  return {
    reconcile(owned, options) {
      if (closing) return
      const unlisted = new Set(assignments.keys())
      for (const row of owned) {
        const id = row.assignment_id
        unlisted.delete(id)
        ;(assignments.get(id) ?? add(id)).setWanted(row, options.mayStart)
      }
      for (const id of unlisted) assignments.get(id)!.setWanted(undefined, false)
      const local = [...assignments.values()].map((each) => each.local())
      for (const action of reconcile(owned, local, options))
        assignments.get(action.assignment_id)?.apply(action)
    },
    fence(assignmentIds, graceMs) {
      const fenced = assignmentIds.flatMap((id) => assignments.get(id) ?? [])
      const alive = fenced.filter((each) => ['alive', 'ending'].includes(each.local().phase)).length
      for (const each of fenced) each.fence(graceMs)
      return alive
    },
    forgetRan(id) {
      ranEpochs.delete(id)
      assignments.get(id)?.forgetRan()
    },
    stopAll: () => (stopping ??= stopAll()),
    detach() {
      closing = true
      for (const each of [...assignments.values()]) each.detach()
      void logs.stop()
    },
    killAll() {
      closing = true
      for (const each of [...assignments.values()]) each.stop(0)
    },
    running: () => [...assignments.values()].filter((each) => each.pid() !== null).length,
    pids: () => [...assignments.values()].map((each) => each.pid()).filter((pid) => pid !== null),
    needed: (owned) =>
      needed(
        owned,
        [...assignments].map(([assignment_id, each]) => ({
          assignment_id,
          packages: each.packages(),
        })),
      ),
  }
}
