/**
 * The lease: how long this node may run what it owns without an answer from the database.
 * README.md has the time line and the reasons. The arithmetic, on the boot clock:
 *
 *   t     the *start* of the beat that confirms a row, (assignment, epoch) by (assignment, epoch)
 *   end   t + T - least(margin, T/10) - CLOCK_GRAIN_MS     SIGKILL: nothing of the row may live
 *   term  end - least(stop_grace, T/3)                     SIGTERM
 *
 * The reaper frees the row at b + T + margin, and b >= t is when the beat was written. So the
 * margin plus least(margin, T/10) lie between the last process here and the first elsewhere.
 * The warden gets each term as well, and ends a lease when this process cannot.
 */
import type { Logger } from 'pino'
import {
  bootClock,
  CLOCK_GRAIN_MS,
  LONGEST_SLEEP_MS,
  type BootClock,
} from '../../host/boot-clock.js'
import type { OwnedAssignment } from '../rows.js'
import type { Deadlines, LeaseTerm } from '../warden/protocol.js'

export type LeasedRow = Pick<
  OwnedAssignment,
  'assignment_id' | 'epoch' | 'type' | 'on_lost' | 'lease_ttl_ms' | 'stop_grace_ms'
>

/**
 * When the processes of the row get SIGTERM, and when they must be gone, unless something confirms
 * the row after confirmedAtMs.
 */
export function deadlinesOf(
  row: LeasedRow,
  confirmedAtMs: number,
  reapMarginMs: number,
): Deadlines {
  const ttl = row.lease_ttl_ms
  const endAtMs = confirmedAtMs + ttl - Math.min(reapMarginMs, ttl / 10) - CLOCK_GRAIN_MS
  return { termAtMs: endAtMs - Math.min(row.stop_grace_ms, ttl / 3), endAtMs }
}

/** Daemons and on_lost='keep' keep running without the database. */
export function isLeased(row: LeasedRow): boolean {
  return row.type !== 'daemon' && row.on_lost === 'stop'
}

export interface Leases {
  /**
   * The node owns exactly these rows, and a beat started at atMs confirms them.
   * Returns true when that revives a fenced row.
   */
  confirm(rows: readonly LeasedRow[], atMs: number): boolean
  /**
   * The warden has begun to stop it, whatever was confirmed meanwhile. The next confirm() revives
   * it, and returns true.
   */
  noteFenced(assignmentId: string): void
  /** May it run now? False before a confirmation under this epoch, and from SIGTERM on. */
  isLive(row: LeasedRow): boolean
  /** Ends nothing and fences nothing more, see host/lifecycle.ts. */
  stop(): Promise<void>
}

export interface LeaseOptions {
  reapMarginMs: number
  /** Returns how many of them are still alive. */
  fence(assignmentIds: readonly string[], graceMs: number): number
  /**
   * The right to run it under this epoch is over, because the node no longer owns it, or nothing
   * confirmed it up to its end. Another node may have had it since, also when the row comes back.
   */
  onOver(assignmentId: string): void
  /** Gives the warden the deadlines of all confirmed rows, before it must start any of them. */
  renew(terms: readonly LeaseTerm[]): void
  log: Logger
  clock?: BootClock
}

interface Entry {
  row: LeasedRow
  deadlines: Deadlines
  listed: boolean
  fenced: boolean
}

export function createLeases({
  reapMarginMs,
  fence,
  onOver,
  renew,
  log,
  clock = bootClock,
}: LeaseOptions): Leases {
  const entries = new Map<string, Entry>()
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  /** Rows fenced by the warden and not yet logged. */
  let unlogged = 0

  function confirm(rows: readonly LeasedRow[], atMs: number): boolean {
    const nowMs = clock()
    let revived = false
    for (const entry of entries.values()) entry.listed = false
    for (const row of rows) {
      const deadlines = deadlinesOf(row, atMs, reapMarginMs)
      const known = entries.get(row.assignment_id)
      if (known === undefined || known.row.epoch !== row.epoch) {
        if (known !== undefined) onOver(row.assignment_id)
        entries.set(row.assignment_id, { row, deadlines, listed: true, fenced: false })
        continue
      }
      if (isLeased(known.row) && nowMs >= known.deadlines.endAtMs) onOver(row.assignment_id)
      // a late answer never shortens what a later beat has given
      if (deadlines.endAtMs > known.deadlines.endAtMs) known.deadlines = deadlines
      known.row = row
      known.listed = true
      if (known.fenced && nowMs < known.deadlines.termAtMs) {
        known.fenced = false
        revived = true
      }
    }
    for (const [id, entry] of entries) {
      if (entry.listed) continue
      onOver(id)
      if (nowMs >= entry.deadlines.endAtMs) entries.delete(id)
    }
    renew(
      rows.map((row) => {
        const { termAtMs, endAtMs } = entries.get(row.assignment_id)!.deadlines
        return isLeased(row)
          ? [row.assignment_id, row.epoch, termAtMs, endAtMs]
          : [row.assignment_id, row.epoch, null, null]
      }),
    )
    schedule()
    return revived
  }

  function isLive(row: LeasedRow): boolean {
    if (!isLeased(row)) return true
    const entry = entries.get(row.assignment_id)
    return (
      entry !== undefined &&
      entry.listed &&
      entry.row.epoch === row.epoch &&
      !entry.fenced &&
      clock() < entry.deadlines.termAtMs
    )
  }

  function noteFenced(assignmentId: string): void {
    const entry = entries.get(assignmentId)
    if (entry === undefined || entry.fenced) return
    entry.fenced = true
    // the warden notifies row by row; one line is logged
    if (unlogged++ === 0)
      setImmediate(() => {
        logEnding(unlogged, Math.max(0, entry.deadlines.endAtMs - clock()))
        unlogged = 0
      })
  }

  function logEnding(assignments: number, graceMs: number): void {
    log.warn(
      { event: 'lease_ending', assignments, grace_ms: Math.round(graceMs) },
      'the lease ends unconfirmed; stopping what another node may get',
    )
  }

  /** SIGTERM to all rows whose term has come. Rows with the same end share one grace. */
  function fenceDue(): void {
    const nowMs = clock()
    const due = new Map<number, string[]>()
    for (const [id, entry] of entries) {
      if (entry.fenced || !isLeased(entry.row) || nowMs < entry.deadlines.termAtMs) continue
      entry.fenced = true
      due.set(entry.deadlines.endAtMs, [...(due.get(entry.deadlines.endAtMs) ?? []), id])
    }
    for (const [endAtMs, ids] of due) {
      const graceMs = Math.max(0, endAtMs - nowMs)
      // a row that was stopped in order keeps its entry until its old end, and is not logged
      const alive = fence(ids, graceMs)
      if (alive > 0) logEnding(alive, graceMs)
    }
    schedule()
  }

  function schedule(): void {
    clearTimeout(timer)
    if (stopped) return
    let soonestMs = Infinity
    for (const entry of entries.values())
      if (!entry.fenced && isLeased(entry.row))
        soonestMs = Math.min(soonestMs, entry.deadlines.termAtMs)
    if (soonestMs === Infinity) return
    timer = setTimeout(fenceDue, Math.min(LONGEST_SLEEP_MS, Math.max(0, soonestMs - clock())))
  }

  return {
    confirm,
    noteFenced,
    isLive,
    async stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
