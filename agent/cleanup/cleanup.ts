/**
 * Removes what is over from the agent's folder, some time after its end:
 *
 *   logs/<id>.log ...     of assignments the node does not own any more, so that for as long somebody can still read why one ended
 *   packages/<n>@<v>      that nothing it owns needs
 *   work/<id>             folders of such assignments that are not empty: what a workload wrote there is removed only where that was asked for
 *
 * How long something has been over is counted by over-ledger.ts; what is not known for sure to be over is in use (in-use.ts). Nothing is removed before the set of this
 * session is known. The decision and the renaming out of the way are one step of this process, so that nothing can be started in between; from then on nobody finds it
 * under its name, and who needs it makes it anew. Only then it is deleted, one file after the other; what a killed agent had renamed, the next one deletes.
 * A folder has one agent at a time (folder.ts), and a session ends only after this has stopped.
 *
 * What somebody wrote into the folder of a package, which is where its workloads run, is not ours either: such a package stays, and the log says so once. So does a folder
 * in which a file system is mounted.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import { isWrittenTo } from '../packages/npm-install.js'
import type { InUse } from './needed.js'
import { raceDeadline } from '../../host/deadline.js'
import { bootClock } from '../../host/boot-clock.js'
import {
  advance,
  readLedger,
  whyLogIsGone,
  withRemoved,
  writeLedger,
} from '../../state-folder/removal-ledger.js'
import { sleep } from '../../host/waiting.js'
import { graves, itemsOf, KINDS, moveAside, stateOf, type Item, type Kind } from './items.js'
import { hasMountIn } from '../../host/mounts.js'
import { removeSlowly } from '../../host/remove-folder.js'
import { describeError } from '../../postgres/errors.js'

/** How long each is kept after its end; null: for ever. 0: until the next look. */
export interface Keep {
  logsMs: number | null
  packagesMs: number | null
  workMs: number | null
}

const DAY_MS = 86_400_000
export const DEFAULT_KEEP: Keep = { logsMs: 7 * DAY_MS, packagesMs: 7 * DAY_MS, workMs: null }

export interface Tidying {
  /** Looks from now on, every now and then. */
  start(): void
  /** What is needed may have changed: what is needed now is not over, however short that may be. */
  noteUse(): void
  /** One look; resolves when everything that was due is gone. */
  look(): Promise<void>
  /** Why there is no log where there was one; null: it was not removed. */
  whyLogIsGone(assignmentId: string): string | null
  /** Removes nothing more. Resolves when nothing is in flight. Idempotent. */
  stop(): Promise<void>
}

export interface TidyingOptions {
  /** The agent's own, `<state>/agents/<node>`. */
  folder: string
  node: string
  keep: Keep
  /** null: it is not known what the node owns. */
  inUse(): InUse | null
  log: Logger
  clock?: () => number
}

/** A disk that hangs must not keep a session from ending: what is in flight then is a deletion among what has been renamed. */
const STOPPED_WITHIN_MS = 2_000
/** Between two looks: a tenth of what is kept the shortest, within these. */
const LOOK_EVERY_MS = { least: 2_000, most: 600_000 }

export function createTidying({
  folder,
  node,
  keep,
  inUse,
  log,
  clock = bootClock,
}: TidyingOptions): Tidying {
  const keptMs: Record<Kind, number | null> = {
    logs: keep.logsMs,
    packages: keep.packagesMs,
    work: keep.workMs,
  }
  const kinds = KINDS.filter((kind) => keptMs[kind] !== null)
  const lookEveryMs = Math.min(
    LOOK_EVERY_MS.most,
    ...kinds.map((kind) => Math.max(LOOK_EVERY_MS.least, keptMs[kind]! / 10)),
  )
  const stopping = new AbortController()
  const ledger = readLedger(folder)
  /** Packages somebody wrote into, by their state then. */
  const writtenTo = new Map<string, string>()
  const told = new Set<string>()
  let lookedMs: number | null = null
  let working: Promise<void> | null = null
  let saving: Promise<void> = Promise.resolve()

  const isInUse = (key: string, uses: InUse): boolean => {
    const name = key.slice(key.indexOf('/') + 1)
    return key.startsWith('packages/') ? uses.package(name) : uses.assignment(name)
  }

  const warnOnce = (what: string, error: unknown): void => {
    if (!told.has(what))
      log.warn(
        { event: 'tidying_failed', what, ...describeError(error) },
        'what is over could not be removed; trying again every now and then',
      )
    told.add(what)
  }

  /** A full disk keeps nothing from being removed: only its count may begin anew with the next agent. */
  const save = (): Promise<void> =>
    (saving = saving
      .then(() => writeLedger(folder, ledger))
      .catch((error: unknown) => warnOnce('over.json', error)))

  async function look(): Promise<void> {
    if (inUse() === null) return
    const nowMs = clock()
    const elapsedMs = lookedMs === null ? 0 : Math.max(0, nowMs - lookedMs)
    lookedMs = nowMs
    const items = (await Promise.all(kinds.map((kind) => itemsOf(folder, kind)))).flat()
    const uses = inUse()
    if (uses === null || stopping.signal.aborted) return
    ledger.over = advance(ledger.over, items, (key) => isInUse(key, uses), elapsedMs)
    const due = items.filter(({ kind, key }) => (ledger.over[key]?.ms ?? -1) >= keptMs[kind]!)
    const dueLogs = due.filter(({ kind }) => kind === 'logs').map(({ name }) => name)
    if (dueLogs.length > 0) {
      // said before they are gone, so that a crash leaves no reader in the dark
      ledger.removed = withRemoved(ledger.removed, dueLogs, new Date().toISOString())
      await save()
    }
    const removed: Record<Kind, string[]> = { logs: [], packages: [], work: [] }
    for (const item of due) {
      try {
        if (await setAside(item)) removed[item.kind].push(item.name)
      } catch (error) {
        warnOnce(item.key, error)
      }
    }
    if (Object.values(removed).some((names) => names.length > 0)) {
      log.info(
        {
          event: 'tidied',
          logs: removed.logs.length,
          work: removed.work.length,
          packages: removed.packages,
        },
        'what was over for long enough is removed',
      )
    }
    await save()
    for (const grave of await graves(folder))
      await removeSlowly(grave, stopping.signal).catch((error: unknown) => warnOnce(grave, error))
  }

  async function setAside(item: Item): Promise<boolean> {
    const { kind, key, parts, state } = item
    if (kind === 'packages' && (await isData(item))) return false
    if (kind !== 'logs' && (await isMounted(item))) return false
    // what is asked here was answered a moment ago, so the renames below do not wait for a disk that hangs
    if ((await stateOf(folder, kind, parts)) !== state) return false
    const uses = inUse()
    if (stopping.signal.aborted || uses === null || isInUse(key, uses)) return false
    moveAside(folder, item)
    delete ledger.over[key]
    return true
  }

  async function isData({ name, key, state }: Item): Promise<boolean> {
    if (writtenTo.get(key) === state) return true
    if (!(await isWrittenTo(join(folder, 'packages', name), stopping.signal))) return false
    if (stopping.signal.aborted) return true
    writtenTo.set(key, state)
    log.info(
      { event: 'package_kept', package: name },
      'no assignment here needs this package any more, but somebody wrote into its folder: it stays until a person deletes it',
    )
    return true
  }

  /** Deleting would go on in the other file system, or the other part of this one. */
  async function isMounted({ kind, name, key }: Item): Promise<boolean> {
    if (!(await hasMountIn(join(folder, kind, name)))) return false
    if (!told.has(key))
      log.warn(
        { event: 'folder_kept', what: key },
        'nothing here needs this folder any more, but a file system is mounted in it: it stays until that is unmounted',
      )
    told.add(key)
    return true
  }

  async function lookNowAndThen(): Promise<void> {
    while (!stopping.signal.aborted) {
      await look().catch((error: unknown) => warnOnce('everything', error))
      await sleep(lookEveryMs, stopping.signal)
    }
  }

  return {
    look,
    start() {
      if (kinds.length > 0 && !stopping.signal.aborted) working ??= lookNowAndThen()
    },
    noteUse() {
      const uses = inUse()
      if (uses === null) return
      const anew = Object.keys(ledger.over).filter((key) => isInUse(key, uses))
      for (const key of anew) delete ledger.over[key]
      const removed = ledger.removed.filter(({ assignment_id }) => !uses.assignment(assignment_id))
      if (anew.length === 0 && removed.length === ledger.removed.length) return
      ledger.removed = removed
      void save()
    },
    whyLogIsGone: (assignmentId) => whyLogIsGone(ledger, node, assignmentId),
    async stop() {
      stopping.abort()
      await raceDeadline(STOPPED_WITHIN_MS, working ?? Promise.resolve(), () => {})
      if (lookedMs !== null) {
        // a session that was shorter than the time between two looks counts too
        for (const over of Object.values(ledger.over)) over.ms += clock() - lookedMs
        lookedMs = null
        void save()
      }
      await raceDeadline(STOPPED_WITHIN_MS, saving, () => {})
    },
  }
}
