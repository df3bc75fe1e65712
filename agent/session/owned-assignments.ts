/**
 * Follows what this node owns: reads the complete set, feeds it to the leases and to the supervisor.
 *
 * The set is read after every hint, after every time of listening anew, and whenever a beat's digest is not that of the set we hold. Reading
 * is never delayed and never doubled: one read in flight, and one more when something was hinted meanwhile. So a lost hint costs one beat
 * of latency, and a storm of them costs two reads.
 *
 * Nothing is given to the supervisor to run whose lease is not confirmed (lease.ts says by what), and nothing new is started while the
 * database holds, or before it has said since the last lost connection that it does not: the server that answers may be a
 * promoted standby, which knows neither the last claims nor that it should wait.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { OwnedAssignment } from '../rows.js'
import { digestOf } from './ownership-digest.js'
import type { Beat } from './heartbeat.js'
import { isFenced, type Leases } from './lease.js'
import { pause } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { describeError, errorKind } from '../../postgres/errors.js'

export interface Assignments {
  /** Something may have changed: read at once. */
  hint(): void
  /** A beat was answered: confirms the set, or finds it outdated. */
  beaten(beat: Beat): void
  /** The complete set as it was read last; null before anything was. */
  owned(): readonly OwnedAssignment[] | null
  /** From now on the supervisor is left alone, and only leases are looked after: the agent stops everything itself. */
  freeze(): void
  /** Resolves when no read is in flight. Idempotent. */
  stop(): Promise<void>
}

export interface AssignmentsOptions {
  db: Pick<AgentDb, 'assignmentsOf' | 'connectionEpoch'>
  node: string
  session: string
  leases: Pick<Leases, 'confirm' | 'isLive'>
  reconcile(owned: readonly OwnedAssignment[], options: { mayStart: boolean }): void
  /** Something could not be confirmed: the next beat should not wait for its time. */
  wantBeat(): void
  onOver(error: unknown): void
  log: Logger
}

const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 1_000

export function createAssignments(options: AssignmentsOptions): Assignments {
  const { db, node, session, leases, log } = options
  const stopping = new AbortController()
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)
  let owned: { rows: readonly OwnedAssignment[]; digest: string } | null = null
  let lastBeat: Beat | null = null
  let applied = { mayStart: false, complete: false }
  /** What runs already when a session begins was taken over, under leases that its warden knows; until the first confirmation nothing is said against it. */
  let confirmed = false
  let frozen = false
  let failing = false
  let outdated = false
  let reading: Promise<void> | null = null

  function hint(): void {
    outdated = true
    if (stopping.signal.aborted) return
    reading ??= readWhileOutdated().finally(() => {
      reading = null
      // hinted between the last look and now
      if (outdated) hint()
    })
  }

  async function readWhileOutdated(): Promise<void> {
    while (outdated && !stopping.signal.aborted) {
      outdated = false
      // only a beat that was answered before the read began can confirm what the read finds
      const before = lastBeat
      try {
        const rows = await db.assignmentsOf(node, session)
        if (stopping.signal.aborted) return
        if (failing) log.info({ event: 'reads_back' }, 'assignments can be read again')
        failing = false
        backoff.reset()
        take(rows, before)
      } catch (error) {
        if (stopping.signal.aborted) return
        if (errorKind(error) === 'session_over') {
          stopping.abort()
          options.onOver(error)
          return
        }
        if (!failing)
          log.warn(
            { event: 'read_failed', ...describeError(error) },
            'assignments could not be read; trying again until they can',
          )
        failing = true
        outdated = true
        await pause(backoff.nextMs(), stopping.signal)
      }
    }
  }

  function confirm(rows: readonly OwnedAssignment[], atMs: number): boolean {
    confirmed = true
    return leases.confirm(rows, atMs)
  }

  function take(rows: readonly OwnedAssignment[], before: Beat | null): void {
    owned = { rows, digest: digestOf(rows) }
    const confirmedBy = lastBeat?.answer.digest === owned.digest ? lastBeat : before
    if (confirmedBy && confirmedBy.connectionEpoch === db.connectionEpoch())
      confirm(rows, confirmedBy.tMs)
    apply()
    if (!applied.complete || lastBeat?.connectionEpoch !== db.connectionEpoch()) options.wantBeat()
  }

  function beaten(beat: Beat): void {
    lastBeat = beat
    if (owned?.digest !== beat.answer.digest) {
      hint()
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

  /** What may not run now is not listed, and so it is stopped; a stop order needs no lease. */
  function apply(): void {
    if (frozen || owned === null || !confirmed) return
    const runnable = owned.rows.filter(
      (row) => row.wanted === 'stop' || !isFenced(row) || leases.isLive(row),
    )
    applied = { mayStart: mayStart(), complete: runnable.length === owned.rows.length }
    try {
      options.reconcile(runnable, { mayStart: applied.mayStart })
    } catch (error) {
      // whatever it is, the beats must go on: without them everything that does run would be lost
      log.error(
        { event: 'reconcile_failed', ...describeError(error) },
        'the set could not be applied; the next one is tried as usual',
      )
      applied.complete = false
    }
  }

  return {
    hint,
    beaten,
    owned: () => owned?.rows ?? null,
    freeze() {
      frozen = true
    },
    async stop() {
      stopping.abort()
      await reading
    },
  }
}
