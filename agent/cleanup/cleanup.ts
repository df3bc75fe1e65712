/**
 * Removes unused items from the agent's folder, some time after they were last needed:
 *
 *   logs/<id>.log ...   of assignments that the node no longer owns
 *   packages/<n>@<v>    that nothing the node owns needs
 *   work/<id>           non-empty folders of such assignments; only with --keep-work
 *
 * removal-ledger.ts counts how long an item has been unused, needed.ts decides what is needed.
 * What is never removed, and how a removal is made safe against starts: README.md.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import { isWrittenTo } from '../packages/npm-install.js'
import type { Needed } from './needed.js'
import { raceDeadline } from '../../host/deadline.js'
import { bootClock } from '../../host/boot-clock.js'
import {
  advance,
  readRemovalLedger,
  whyLogIsGone,
  withRemoved,
  writeRemovalLedger,
} from '../../state-folder/removal-ledger.js'
import { sleep } from '../../host/waiting.js'
import { itemsOf, KINDS, moveAside, pathsSetAside, stateOf, type Item, type Kind } from './items.js'
import { hasMountIn } from '../../host/mounts.js'
import { removeSlowly } from '../../host/remove-folder.js'
import { describeError } from '../../postgres/errors.js'

/** How long each kind of item is kept unused. null: for ever. 0: until the next round. */
export interface Keep {
  logsMs: number | null
  packagesMs: number | null
  workMs: number | null
}

const DAY_MS = 86_400_000
export const DEFAULT_KEEP: Keep = { logsMs: 7 * DAY_MS, packagesMs: 7 * DAY_MS, workMs: null }

export interface Cleanup {
  /** Calls runOnce() at intervals, until stop(). */
  start(): void
  /** Call it when what is needed may have changed. An item needed now starts again at 0. */
  noteNeeded(): void
  /** One round. Resolves when everything that was due is deleted. */
  runOnce(): Promise<void>
  /** The sentence about a removed log; null when cleanup did not remove it. */
  whyLogIsGone(assignmentId: string): string | null
  /** Removes nothing more. Resolves when nothing is in progress. Idempotent. */
  stop(): Promise<void>
}

export interface CleanupOptions {
  /** The agent's own folder, `<state>/agents/<node>`. */
  folder: string
  node: string
  keep: Keep
  /** null: what the node owns is not known yet. */
  needed(): Needed | null
  log: Logger
  clock?: () => number
}

/**
 * A hanging disk must not delay the end of a session. What is in progress by then only deletes
 * items that have been renamed already.
 */
const STOPPED_WITHIN_MS = 2_000
/** The time between two rounds is a tenth of the shortest Keep, within these bounds. */
const ROUND_EVERY_MS = { least: 2_000, most: 600_000 }

export function createCleanup({
  folder,
  node,
  keep,
  needed,
  log,
  clock = bootClock,
}: CleanupOptions): Cleanup {
  const keptMs: Record<Kind, number | null> = {
    logs: keep.logsMs,
    packages: keep.packagesMs,
    work: keep.workMs,
  }
  const kinds = KINDS.filter((kind) => keptMs[kind] !== null)
  const roundEveryMs = Math.min(
    ROUND_EVERY_MS.most,
    ...kinds.map((kind) => Math.max(ROUND_EVERY_MS.least, keptMs[kind]! / 10)),
  )
  const stopping = new AbortController()
  const ledger = readRemovalLedger(folder)
  /** Packages that contain more than was installed, with their state at that time. */
  const writtenTo = new Map<string, string>()
  const reported = new Set<string>()
  let lastRoundMs: number | null = null
  let working: Promise<void> | null = null
  let saving: Promise<void> = Promise.resolve()

  const isNeeded = (key: string, needs: Needed): boolean => {
    const name = key.slice(key.indexOf('/') + 1)
    return key.startsWith('packages/') ? needs.package(name) : needs.assignment(name)
  }

  const warnOnce = (what: string, error: unknown): void => {
    if (!reported.has(what))
      log.warn(
        { event: 'cleanup_failed', what, ...describeError(error) },
        'an unused item could not be removed; each round tries again',
      )
    reported.add(what)
  }

  /** On a full disk items are still removed, but the next agent may count again from 0. */
  const save = (): Promise<void> =>
    (saving = saving
      .then(() => writeRemovalLedger(folder, ledger))
      .catch((error: unknown) => warnOnce('removal-ledger.json', error)))

  async function runOnce(): Promise<void> {
    if (needed() === null) return
    const nowMs = clock()
    const elapsedMs = lastRoundMs === null ? 0 : Math.max(0, nowMs - lastRoundMs)
    lastRoundMs = nowMs
    const items = (await Promise.all(kinds.map((kind) => itemsOf(folder, kind)))).flat()
    const needs = needed()
    if (needs === null || stopping.signal.aborted) return
    ledger.unused = advance(ledger.unused, items, (key) => isNeeded(key, needs), elapsedMs)
    const due = items.filter(({ kind, key }) => (ledger.unused[key]?.ms ?? -1) >= keptMs[kind]!)
    const dueLogs = due.filter(({ kind }) => kind === 'logs').map(({ name }) => name)
    if (dueLogs.length > 0) {
      // recorded before the removal, so that a reader finds the reason even after a crash
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
          event: 'cleaned_up',
          logs: removed.logs.length,
          work: removed.work.length,
          packages: removed.packages,
        },
        'items that were unused for long enough are removed',
      )
    }
    await save()
    for (const path of await pathsSetAside(folder))
      await removeSlowly(path, stopping.signal).catch((error: unknown) => warnOnce(path, error))
  }

  async function setAside(item: Item): Promise<boolean> {
    const { kind, key, parts, state } = item
    if (kind === 'packages' && (await isData(item))) return false
    if (kind !== 'logs' && (await isMounted(item))) return false
    // this repeats a lookup made a moment ago, so the renames below do not wait for a slow disk
    if ((await stateOf(folder, kind, parts)) !== state) return false
    const needs = needed()
    if (stopping.signal.aborted || needs === null || isNeeded(key, needs)) return false
    moveAside(folder, item)
    delete ledger.unused[key]
    return true
  }

  async function isData({ name, key, state }: Item): Promise<boolean> {
    if (writtenTo.get(key) === state) return true
    if (!(await isWrittenTo(join(folder, 'packages', name), stopping.signal))) return false
    if (stopping.signal.aborted) return true
    writtenTo.set(key, state)
    log.info(
      { event: 'package_kept', package: name },
      'no assignment here needs this package any more, but its folder has files that were not ' +
        'installed: it stays until a person deletes it',
    )
    return true
  }

  /** A deletion would continue in the mounted file system. */
  async function isMounted({ kind, name, key }: Item): Promise<boolean> {
    if (!(await hasMountIn(join(folder, kind, name)))) return false
    if (!reported.has(key))
      log.warn(
        { event: 'folder_kept', what: key },
        'nothing here needs this folder any more, but a file system is mounted in it: ' +
          'it stays until that is unmounted',
      )
    reported.add(key)
    return true
  }

  async function runUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      await runOnce().catch((error: unknown) => warnOnce('everything', error))
      await sleep(roundEveryMs, stopping.signal)
    }
  }

  return {
    runOnce,
    start() {
      if (kinds.length > 0 && !stopping.signal.aborted) working ??= runUntilStopped()
    },
    noteNeeded() {
      const needs = needed()
      if (needs === null) return
      const neededAgain = Object.keys(ledger.unused).filter((key) => isNeeded(key, needs))
      for (const key of neededAgain) delete ledger.unused[key]
      const removed = ledger.removed.filter(({ assignment_id }) => !needs.assignment(assignment_id))
      if (neededAgain.length === 0 && removed.length === ledger.removed.length) return
      ledger.removed = removed
      void save()
    },
    whyLogIsGone: (assignmentId) => whyLogIsGone(ledger, node, assignmentId),
    async stop() {
      stopping.abort()
      await raceDeadline(STOPPED_WITHIN_MS, working ?? Promise.resolve(), () => {})
      if (lastRoundMs !== null) {
        // a session that was shorter than the time between two rounds counts too
        for (const unused of Object.values(ledger.unused)) unused.ms += clock() - lastRoundMs
        lastRoundMs = null
        void save()
      }
      await raceDeadline(STOPPED_WITHIN_MS, saving, () => {})
    },
  }
}
