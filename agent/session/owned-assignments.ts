/**
 * Follows what this node owns: reads the complete set, and gives it to the leases and the
 * supervisor.
 *
 * It reads after every hint, after each time that listening begins, and when the digest of a beat
 * differs from that of its set. One read is in flight, and one more follows when a hint came
 * meanwhile. So a lost hint costs one beat of latency, and a storm of hints costs two reads.
 *
 * The supervisor runs only what a confirmed lease covers (README.md, "What confirms what").
 * Nothing new starts in a hold. After a lost connection nothing new starts before a beat answers
 * that there is no hold: the server may be a promoted standby that lost the last claims.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { OwnedAssignment } from '../rows.js'
import { digestOf } from './ownership-digest.js'
import type { Beat } from './heartbeat.js'
import { isLeased, type Leases } from './lease.js'
import { sleep } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { createOnDemand } from '../../host/on-demand.js'
import { describeError, errorKind } from '../../postgres/errors.js'

export interface OwnedAssignments {
  /** Something may have changed: reads at once. */
  hint(): void
  /** A beat was answered: confirms the set, or finds it outdated. */
  noteBeat(beat: Beat): void
  /** The complete set of the last read; null before the first. */
  owned(): readonly OwnedAssignment[] | null
  /** From now on only leases are confirmed, because the agent stops everything itself. */
  freeze(): void
  /** See host/lifecycle.ts. */
  stop(): Promise<void>
}

export interface OwnedAssignmentsOptions {
  db: Pick<AgentDb, 'assignmentsOf' | 'connectionEpoch'>
  node: string
  session: string
  leases: Pick<Leases, 'confirm' | 'isLive'>
  reconcile(owned: readonly OwnedAssignment[], options: { mayStart: boolean }): void
  /** Something could not be confirmed: brings the next beat forward. */
  requestBeat(): void
  onSessionOver(error: unknown): void
  log: Logger
}

const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 1_000

export function createOwnedAssignments(options: OwnedAssignmentsOptions): OwnedAssignments {
  const { db, node, session, leases, log } = options
  const reads = createOnDemand(readOnce)
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let owned: { rows: readonly OwnedAssignment[]; digest: string } | null = null
  let lastBeat: Beat | null = null
  let applied = { mayStart: false, complete: false }
  /**
   * False until the first confirmation. A session begins with processes that it took over, and
   * their warden knows their leases. So nothing is ordered before.
   */
  let confirmed = false
  let frozen = false
  let failing = false

  async function readOnce(stop: AbortSignal): Promise<void> {
    // only a beat that was answered before the read began can confirm its rows
    const beatBefore = lastBeat
    try {
      const rows = await db.assignmentsOf(node, session)
      if (stop.aborted) return
      if (failing) log.info({ event: 'reads_back' }, 'assignments can be read again')
      failing = false
      backoff.reset()
      noteRead(rows, beatBefore)
    } catch (error) {
      if (stop.aborted) return
      if (errorKind(error) === 'session_over') {
        void reads.stop()
        options.onSessionOver(error)
        return
      }
      if (!failing)
        log.warn(
          { event: 'read_failed', ...describeError(error) },
          'assignments could not be read; retrying until they can',
        )
      failing = true
      reads.request()
      await sleep(backoff.nextMs(), stop)
    }
  }

  function confirm(rows: readonly OwnedAssignment[], atMs: number): boolean {
    confirmed = true
    return leases.confirm(rows, atMs)
  }

  function noteRead(rows: readonly OwnedAssignment[], beatBefore: Beat | null): void {
    owned = { rows, digest: digestOf(rows) }
    // A beat with this very digest confirms, whenever it came. Any other must have been answered
    // before the read began.
    const confirmedBy = lastBeat?.answer.digest === owned.digest ? lastBeat : beatBefore
    if (confirmedBy && confirmedBy.connectionEpoch === db.connectionEpoch())
      confirm(rows, confirmedBy.tMs)
    apply()
    if (!applied.complete || lastBeat?.connectionEpoch !== db.connectionEpoch())
      options.requestBeat()
  }

  function noteBeat(beat: Beat): void {
    lastBeat = beat
    if (owned?.digest !== beat.answer.digest) {
      reads.request()
      return
    }
    const revived = confirm(owned.rows, beat.tMs)
    if (revived || !applied.complete || applied.mayStart !== mayStart()) apply()
  }

  function mayStart(): boolean {
    return (
      lastBeat !== null &&
      !lastBeat.answer.hold &&
      lastBeat.connectionEpoch === db.connectionEpoch()
    )
  }

  /** What may not run now is not listed, so it is stopped. A stop order needs no lease. */
  function apply(): void {
    if (frozen || owned === null || !confirmed) return
    const runnable = owned.rows.filter(
      (row) => row.wanted === 'stop' || !isLeased(row) || leases.isLive(row),
    )
    applied = { mayStart: mayStart(), complete: runnable.length === owned.rows.length }
    try {
      options.reconcile(runnable, { mayStart: applied.mayStart })
    } catch (error) {
      // the beats must go on in any case: without them everything that runs is lost
      log.error(
        { event: 'reconcile_failed', ...describeError(error) },
        'the set of assignments could not be applied; the next set is tried as usual',
      )
      applied.complete = false
    }
  }

  return {
    hint: reads.request,
    noteBeat,
    owned: () => owned?.rows ?? null,
    freeze() {
      frozen = true
    },
    stop: reads.stop,
  }
}
