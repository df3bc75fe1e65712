/**
 * The outbox of observations. A report is sent at once when nothing else is being sent; while the database is busy or away, only the latest
 * of each assignment and epoch is kept. 'stopped' and 'refused' are never overwritten by a later state: they free the assignment,
 * and what follows them is told after them. Nothing is lost while the agent lives, not even what a server that crashed without
 * synchronous_commit, or a promoted standby, had taken and forgot: repeat() tells the present state again. Nothing outlives the
 * agent, since its next session reports what it sees itself.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { ReportOutcome, RunReport } from '../rows.js'
import { inTime } from '../../host/deadline.js'
import { pause } from '../../host/waiting.js'
import { createBackoff } from '../../host/backoff.js'
import { describeError, errorKind } from '../../postgres/errors.js'

export interface Reports {
  push(report: RunReport): void
  /** Tells the last of each assignment again. */
  repeat(): void
  /** Resolves true when everything pushed so far was taken, false when that did not happen within timeoutMs. */
  flush(timeoutMs: number): Promise<boolean>
  pending(): number
  /** Sends nothing more. Resolves when nothing is in flight. Idempotent. */
  stop(): Promise<void>
}

export interface ReportsOptions {
  db: Pick<AgentDb, 'report'>
  node: string
  session: string
  onOver(error: unknown): void
  log: Logger
}

export const REPORT_BATCH = 200
/** What the database keeps of an error anyway. */
export const MAX_ERROR_LENGTH = 2_000
const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 2_000
/** A row that is locked at the moment (an open transaction of assert_owner, a reap) is told again after this. */
const LOCKED_RETRY_MS = 100

export function createReports({ db, node, session, onOver, log }: ReportsOptions): Reports {
  let outbox: RunReport[] = []
  /** What the database should know by now of each assignment that is not settled. */
  const lastTold = new Map<string, RunReport>()
  let sending: Promise<void> | null = null
  let failing = false
  const stopping = new AbortController()
  const backoff = createBackoff(FIRST_RETRY_MS, MAX_RETRY_MS)

  function push(report: RunReport): void {
    if (stopping.signal.aborted) return
    const clean = cleaned(report)
    if (isFinal(clean)) lastTold.delete(clean.assignment_id)
    else lastTold.set(clean.assignment_id, clean)
    enqueue(clean)
  }

  function enqueue(clean: RunReport): void {
    const at = outbox.findLastIndex((queued) => sameRun(queued, clean))
    if (at !== -1 && !isFinal(outbox[at]!)) outbox[at] = clean
    else outbox.push(clean)
    begin()
  }

  function begin(): void {
    // after the caller's turn: what one reconcile reports travels together
    sending ??= Promise.resolve()
      .then(sendAll)
      .finally(() => {
        sending = null
        // told between the last look at the outbox and now: the answers of a report and of a read can arrive in one turn
        if (outbox.length > 0 && !stopping.signal.aborted) begin()
      })
  }

  async function sendAll(): Promise<void> {
    while (outbox.length > 0 && !stopping.signal.aborted) {
      const batch = nextBatch(outbox)
      const waitMs = await send(batch)
      if (waitMs > 0) await pause(waitMs, stopping.signal)
    }
  }

  /** Sends a batch, takes out of the outbox what is settled, and says how long to wait before the next. */
  async function send(batch: readonly RunReport[]): Promise<number> {
    try {
      const outcomes = await db.report(node, session, batch)
      const locked = new Set(
        outcomes.filter((o) => o.accepted === null).map((o) => `${o.assignment_id}:${o.epoch}`),
      )
      const settled = new Set(batch.filter((r) => !locked.has(`${r.assignment_id}:${r.epoch}`)))
      outbox = outbox.filter((report) => !settled.has(report))
      for (const outcome of outcomes) if (outcome.accepted === false) outdated(outcome)
      if (failing) log.info({ event: 'reports_back' }, 'reports are taken again')
      failing = false
      backoff.reset()
      return locked.size > 0 ? LOCKED_RETRY_MS : 0
    } catch (error) {
      return refused(batch, error)
    }
  }

  function outdated({ assignment_id, epoch }: ReportOutcome): void {
    if (lastTold.get(assignment_id)?.epoch === epoch) lastTold.delete(assignment_id)
    log.debug({ event: 'report_outdated', assignment_id, epoch }, 'a report came too late to count')
  }

  async function refused(batch: readonly RunReport[], error: unknown): Promise<number> {
    const kind = errorKind(error)
    if (kind === 'session_over') {
      stopping.abort()
      onOver(error)
      return 0
    }
    if (kind === 'bad_value' || kind === 'refused') {
      const [only] = batch
      if (batch.length === 1 && only) {
        // one row that the database will never take must not hold back the others
        outbox = outbox.filter((report) => report !== only)
        log.error(
          {
            event: 'report_refused',
            assignment_id: only.assignment_id,
            epoch: only.epoch,
            state: only.state,
            ...describeError(error),
          },
          'the database refuses a report',
        )
        return 0
      }
      for (const report of batch) {
        if (stopping.signal.aborted) return 0
        const waitMs = await send([report])
        if (waitMs > 0) return waitMs
      }
      return 0
    }
    if (!failing)
      log.warn(
        { event: 'report_failed', pending: outbox.length, ...describeError(error) },
        'reports are not taken; trying again until they are',
      )
    failing = true
    return backoff.nextMs()
  }

  return {
    push,
    repeat() {
      for (const report of lastTold.values())
        if (!outbox.some((queued) => sameRun(queued, report))) enqueue(report)
    },
    pending: () => outbox.length,
    async flush(timeoutMs) {
      const sent = async (): Promise<void> => {
        while (sending) await sending
      }
      await inTime(timeoutMs, sent(), () => {})
      return outbox.length === 0
    },
    async stop() {
      stopping.abort()
      await sending
    },
  }
}

/** An assignment is in a batch once: what follows its 'stopped' goes with the next one. */
function nextBatch(outbox: readonly RunReport[]): RunReport[] {
  const byAssignment = new Map<string, RunReport>()
  for (const report of outbox) {
    if (byAssignment.size === REPORT_BATCH) break
    if (!byAssignment.has(report.assignment_id)) byAssignment.set(report.assignment_id, report)
  }
  return [...byAssignment.values()]
}

function sameRun(a: RunReport, b: RunReport): boolean {
  return a.assignment_id === b.assignment_id && a.epoch === b.epoch
}

function isFinal(report: RunReport): boolean {
  return report.state === 'stopped' || report.state === 'refused'
}

/** NUL and lone surrogates are no text to Postgres: one such error message would make the whole batch unacceptable. */
function cleaned(report: RunReport): RunReport {
  if (report.error === null) return report
  return {
    ...report,
    error: Buffer.from(
      report.error.slice(0, MAX_ERROR_LENGTH).replaceAll('\0', '\u2400'),
    ).toString(),
  }
}
