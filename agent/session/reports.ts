/**
 * The outbox of reports.
 *
 * A report is sent at once when no other is being sent. While the database is busy or unreachable,
 * the outbox keeps only the latest report of each assignment and epoch. A later state never
 * overwrites 'stopped' or 'refused', because those free the assignment. It is sent after them.
 *
 * No report is lost while the agent lives. A server that crashed without synchronous_commit, and a
 * promoted standby, may have lost accepted ones: repeat() sends the present state again.
 * No report outlives the agent, because its next session reports what it observes itself.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { ReportOutcome, AssignmentReport } from '../rows.js'
import { raceDeadline } from '../../host/deadline.js'
import { sleep } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { createOnDemand } from '../../host/on-demand.js'
import { describeError, errorKind } from '../../postgres/errors.js'

export interface Reports {
  push(report: AssignmentReport): void
  /** Sends the last report of each assignment again. */
  repeat(): void
  /** Resolves true when the outbox is empty, and false when it is not after timeoutMs. */
  flush(timeoutMs: number): Promise<boolean>
  pending(): number
  /** Sends nothing more, see host/lifecycle.ts. */
  stop(): Promise<void>
}

export interface ReportsOptions {
  db: Pick<AgentDb, 'report'>
  node: string
  session: string
  onSessionOver(error: unknown): void
  log: Logger
}

export const REPORT_BATCH = 200
/** The database keeps no more of an error. */
export const MAX_ERROR_LENGTH = 2_000
const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 2_000
/** A report of a locked row is repeated after this. assert_owner() and a reap lock rows. */
const LOCKED_RETRY_MS = 100

export function createReports({ db, node, session, onSessionOver, log }: ReportsOptions): Reports {
  let outbox: AssignmentReport[] = []
  /** The last report of each assignment that has no final one. */
  const lastReports = new Map<string, AssignmentReport>()
  let failing = false
  const sending = createOnDemand(sendAll)
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)

  function push(report: AssignmentReport): void {
    if (sending.signal.aborted) return
    const clean = cleaned(report)
    if (isFinal(clean)) lastReports.delete(clean.assignment_id)
    else lastReports.set(clean.assignment_id, clean)
    enqueue(clean)
  }

  function enqueue(clean: AssignmentReport): void {
    const at = outbox.findLastIndex((queued) => isSameEpoch(queued, clean))
    if (at !== -1 && !isFinal(outbox[at]!)) outbox[at] = clean
    else outbox.push(clean)
    sending.request()
  }

  async function sendAll(stop: AbortSignal): Promise<void> {
    // after the caller's turn, so that what one reconcile reports is sent together
    await Promise.resolve()
    while (outbox.length > 0 && !stop.aborted) {
      const batch = nextBatch(outbox)
      const waitMs = await send(batch)
      if (waitMs > 0) await sleep(waitMs, stop)
    }
  }

  /** Sends a batch, removes what is settled, and returns the wait before the next. */
  async function send(batch: readonly AssignmentReport[]): Promise<number> {
    try {
      const outcomes = await db.report(node, session, batch)
      const locked = new Set(
        outcomes.filter((o) => o.accepted === null).map((o) => `${o.assignment_id}:${o.epoch}`),
      )
      const settled = new Set(batch.filter((r) => !locked.has(`${r.assignment_id}:${r.epoch}`)))
      outbox = outbox.filter((report) => !settled.has(report))
      for (const outcome of outcomes) if (outcome.accepted === false) noteOutdated(outcome)
      if (failing) log.info({ event: 'reports_back' }, 'the database accepts reports again')
      failing = false
      backoff.reset()
      return locked.size > 0 ? LOCKED_RETRY_MS : 0
    } catch (error) {
      return handleFailure(batch, error)
    }
  }

  function noteOutdated({ assignment_id, epoch }: ReportOutcome): void {
    if (lastReports.get(assignment_id)?.epoch === epoch) lastReports.delete(assignment_id)
    log.debug(
      { event: 'report_outdated', assignment_id, epoch },
      'a report came too late and was not accepted',
    )
  }

  async function handleFailure(
    batch: readonly AssignmentReport[],
    error: unknown,
  ): Promise<number> {
    const kind = errorKind(error)
    if (kind === 'session_over') {
      void sending.stop()
      onSessionOver(error)
      return 0
    }
    if (kind === 'bad_value' || kind === 'refused') {
      const [only] = batch
      if (batch.length === 1 && only) {
        // a report that the database will never accept must not hold back the others
        outbox = outbox.filter((report) => report !== only)
        log.error(
          {
            event: 'report_refused',
            assignment_id: only.assignment_id,
            epoch: only.epoch,
            state: only.state,
            ...describeError(error),
          },
          'the database refuses a report; it is dropped',
        )
        return 0
      }
      for (const report of batch) {
        if (sending.signal.aborted) return 0
        const waitMs = await send([report])
        if (waitMs > 0) return waitMs
      }
      return 0
    }
    if (!failing)
      log.warn(
        { event: 'report_failed', pending: outbox.length, ...describeError(error) },
        'the database does not accept reports; retrying until it does',
      )
    failing = true
    return backoff.nextMs()
  }

  return {
    push,
    repeat() {
      for (const report of lastReports.values())
        if (!outbox.some((queued) => isSameEpoch(queued, report))) enqueue(report)
    },
    pending: () => outbox.length,
    async flush(timeoutMs) {
      await raceDeadline(timeoutMs, sending.idle(), () => {})
      return outbox.length === 0
    },
    stop: sending.stop,
  }
}

/** A batch holds one report of an assignment. The report after its 'stopped' goes with the next. */
function nextBatch(outbox: readonly AssignmentReport[]): AssignmentReport[] {
  const byAssignment = new Map<string, AssignmentReport>()
  for (const report of outbox) {
    if (byAssignment.size === REPORT_BATCH) break
    if (!byAssignment.has(report.assignment_id)) byAssignment.set(report.assignment_id, report)
  }
  return [...byAssignment.values()]
}

function isSameEpoch(a: AssignmentReport, b: AssignmentReport): boolean {
  return a.assignment_id === b.assignment_id && a.epoch === b.epoch
}

function isFinal(report: AssignmentReport): boolean {
  return report.state === 'stopped' || report.state === 'refused'
}

/**
 * Postgres accepts neither NUL nor lone surrogates as text. One such error message would make the
 * whole batch unacceptable.
 */
function cleaned(report: AssignmentReport): AssignmentReport {
  if (report.error === null) return report
  return {
    ...report,
    error: Buffer.from(
      report.error.slice(0, MAX_ERROR_LENGTH).replaceAll('\0', '\u2400'),
    ).toString(),
  }
}
