/**
 * The lease: how long this node may run what it owns without hearing from the database.
 *
 * Somewhere else a reaper counts too. It gives our work to another node once the last beat it saw is older than lease + margin, and we must
 * be dead by then, cut off or not. We cannot ask, so we count, each on its own clock, from moments that are ordered in real time:
 *
 *     agent     t ──────────────────────────────► term ─────────► end
 *               │ beat sent          SIGTERM ─────┘  grace  SIGKILL ┘     G = least(stop_grace, T/3)
 *               │    ▲ answer: counts for nothing but its content         end = t + T - least(margin, T/10)
 *               ▼    │
 *     database    b ─┘────────────────────────────────────────────────────── b + T ──── b + T + margin
 *                 beat written, b >= t                                                       └ reaped, elsewhere from here on
 *
 * - t is when the request was *started*. Counting from the answer would let network delay extend the lease on our side only.
 * - The reaper waits until b + T + margin and b >= t, so the whole margin, and a tenth of the lease besides, lies between our last process
 *   and the first of another node: for clocks that run apart, a timer that wakes late, SIGKILL that takes a moment.
 * - A beat extends only what its answer *confirms*, (assignment, epoch) by (assignment, epoch). A lease of the whole node would go on
 *   covering what was taken away while a stop order was lost, or what a promoted standby never heard of. Two things confirm:
 *     the beat's digest equals the digest of our set           -> all of the set, from that beat's t
 *     assignments_of, *begun after* a beat was answered, lists -> the rows listed, from that beat's t (they were ours after b >= t)
 * - What a read no longer lists keeps its old end: it is being stopped in its own time, but never beyond what was granted.
 * - Daemons belong to the node and on_lost='keep' says so: neither is ever taken from a silent node, neither is fenced.
 *
 * The clock is the boot clock: the monotonic clock of the process stands still while a laptop or a VM sleeps, and a lease does not.
 * Here the lease ends in order: what runs is asked to stop, and it is told. That it ends in any case, were this process killed, stopped or stuck, is the
 * warden's part, which is given every term as soon as it is known.
 * What no process can do from inside: stop itself while the whole machine is paused. assert_owner() covers that in the database.
 */
import type { Logger } from 'pino'
import {
  bootClock,
  CLOCK_GRAIN_MS,
  LONGEST_SLEEP_MS,
  type BootClock,
} from '../../host/boot-clock.js'
import type { OwnedAssignment } from '../rows.js'
import type { LeaseTerm } from '../warden/protocol.js'

export interface Term {
  termAtMs: number
  endAtMs: number
}

export type LeasedRow = Pick<
  OwnedAssignment,
  'assignment_id' | 'epoch' | 'type' | 'on_lost' | 'lease_ttl_ms' | 'stop_grace_ms'
>

/** From when on the row's processes are asked to end, and by when they must be gone, if nothing confirms it after confirmedAtMs. */
export function termOf(row: LeasedRow, confirmedAtMs: number, reapMarginMs: number): Term {
  const ttl = row.lease_ttl_ms
  const endAtMs = confirmedAtMs + ttl - Math.min(reapMarginMs, ttl / 10) - CLOCK_GRAIN_MS
  return { termAtMs: endAtMs - Math.min(row.stop_grace_ms, ttl / 3), endAtMs }
}

/** Daemons and on_lost='keep' run on, whatever the database says or does not say. */
export function isFenced(row: LeasedRow): boolean {
  return row.type !== 'daemon' && row.on_lost === 'stop'
}

export interface Leases {
  /** The node owns exactly these rows, and a beat started at atMs confirms them. Returns true when that revived something fenced. */
  confirm(rows: readonly LeasedRow[], atMs: number): boolean
  /** The warden has begun to stop it, whatever was confirmed since: a later confirmation revives it, and says so. */
  noteFenced(assignmentId: string): void
  /** May it be started or kept running now? False for what was never confirmed under this epoch, and from the moment of SIGTERM on. */
  isLive(row: LeasedRow): boolean
  stop(): void
}

export interface LeaseOptions {
  reapMarginMs: number
  /** Returns how many of them were still alive. */
  fence(assignmentIds: readonly string[], graceMs: number): number
  /** Gives the terms of everything that is confirmed to whoever runs it, before it is asked to run anything by them. */
  renew(terms: readonly LeaseTerm[]): void
  log: Logger
  clock?: BootClock
}

interface Entry {
  row: LeasedRow
  term: Term
  listed: boolean
  fenced: boolean
}

export function createLeases({
  reapMarginMs,
  fence,
  renew,
  log,
  clock = bootClock,
}: LeaseOptions): Leases {
  const entries = new Map<string, Entry>()
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  /** Fenced by the warden, and not yet said. */
  let noted = 0

  function confirm(rows: readonly LeasedRow[], atMs: number): boolean {
    const nowMs = clock()
    let revived = false
    for (const entry of entries.values()) entry.listed = false
    for (const row of rows) {
      const term = termOf(row, atMs, reapMarginMs)
      const known = entries.get(row.assignment_id)
      if (known === undefined || known.row.epoch !== row.epoch) {
        entries.set(row.assignment_id, { row, term, listed: true, fenced: false })
        continue
      }
      // an answer that comes late never takes back what a later beat gave
      if (term.endAtMs > known.term.endAtMs) known.term = term
      known.row = row
      known.listed = true
      if (known.fenced && nowMs < known.term.termAtMs) {
        known.fenced = false
        revived = true
      }
    }
    for (const [id, entry] of entries)
      if (!entry.listed && nowMs >= entry.term.endAtMs) entries.delete(id)
    renew(
      rows.map((row) => {
        const { termAtMs, endAtMs } = entries.get(row.assignment_id)!.term
        return isFenced(row)
          ? [row.assignment_id, row.epoch, termAtMs, endAtMs]
          : [row.assignment_id, row.epoch, null, null]
      }),
    )
    schedule()
    return revived
  }

  function isLive(row: LeasedRow): boolean {
    if (!isFenced(row)) return true
    const entry = entries.get(row.assignment_id)
    return (
      entry !== undefined &&
      entry.listed &&
      entry.row.epoch === row.epoch &&
      !entry.fenced &&
      clock() < entry.term.termAtMs
    )
  }

  function noteFenced(assignmentId: string): void {
    const entry = entries.get(assignmentId)
    if (entry === undefined || entry.fenced) return
    entry.fenced = true
    // told one by one, said once
    if (noted++ === 0)
      setImmediate(() => {
        sayEnding(noted, Math.max(0, entry.term.endAtMs - clock()))
        noted = 0
      })
  }

  function sayEnding(assignments: number, graceMs: number): void {
    log.warn(
      { event: 'lease_ending', assignments, grace_ms: Math.round(graceMs) },
      'the lease ends unconfirmed: stopping what another node may be given',
    )
  }

  /** SIGTERM to everything whose time has come; each group of equal ends is told how long it has. */
  function look(): void {
    const nowMs = clock()
    const due = new Map<number, string[]>()
    for (const [id, entry] of entries) {
      if (entry.fenced || !isFenced(entry.row) || nowMs < entry.term.termAtMs) continue
      entry.fenced = true
      due.set(entry.term.endAtMs, [...(due.get(entry.term.endAtMs) ?? []), id])
    }
    for (const [endAtMs, ids] of due) {
      const graceMs = Math.max(0, endAtMs - nowMs)
      // what was stopped in order keeps its entry until its old end, and is no news
      const alive = fence(ids, graceMs)
      if (alive > 0) sayEnding(alive, graceMs)
    }
    schedule()
  }

  function schedule(): void {
    clearTimeout(timer)
    if (stopped) return
    let soonestMs = Infinity
    for (const entry of entries.values())
      if (!entry.fenced && isFenced(entry.row)) soonestMs = Math.min(soonestMs, entry.term.termAtMs)
    if (soonestMs === Infinity) return
    timer = setTimeout(look, Math.min(LONGEST_SLEEP_MS, Math.max(0, soonestMs - clock())))
  }

  return {
    confirm,
    noteFenced,
    isLive,
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}
