/**
 * Answers requests for logs of this host, through the database:
 * request_log() -> hint -> log_requests_of() -> answer_log() -> read_log().
 *
 * The cost for the host is bounded, whatever is requested:
 *   - one slice is read at a time, LOG_BYTES_PER_SECOND in the long run;
 *   - a connection of its own carries it, so beats and reports never wait for it;
 *   - a storm of hints causes one read of the requests in each interval;
 *   - a request that waits for new output is served by watching the file, not the database.
 *
 * A lost hint is not searched for, because the reader repeats its request and gives up by itself.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { LogAnswer, LogRequest } from '../rows.js'
import { createOnDemand } from '../../host/on-demand.js'
import { sleep } from '../../host/waiting.js'
import { describeError, errorKind } from '../../postgres/errors.js'
import {
  logFileOf,
  logState,
  readLog,
  SLICE_LIMIT_BYTES,
  type LogStart,
} from '../../state-folder/log-reader.js'

export interface LogRequests {
  /** A reader requests a log. */
  hint(): void
  /** Answers nothing more, see host/lifecycle.ts. */
  stop(): Promise<void>
}

export interface LogRequestsOptions {
  db: Pick<AgentDb, 'logRequestsOf' | 'answerLog'>
  node: string
  session: string
  /** The agent's folder, with logs/ in it. */
  folder: string
  /** Why a log does not exist; null when that is not known. */
  whyGone(assignmentId: string): string | null
  onSessionOver(error: unknown): void
  log: Logger
  bytesPerSecond?: number
}

export const LOG_BYTES_PER_SECOND = 2 * 1024 * 1024
/** Between two reads of the requests, and two looks at the logs; longer when these are many. */
const INTERVAL_MS = { least: 50, each: 2 }

const RETRY_MS = 500
/** The reader has given up by then. */
const FORGET_AFTER_MS = 10_000

interface PendingRequest {
  request: LogRequest
  untilMs: number
  state: string | null
}

export function createLogRequests({
  db,
  node,
  session,
  folder,
  whyGone,
  onSessionOver,
  log,
  bytesPerSecond = LOG_BYTES_PER_SECOND,
}: LogRequestsOptions): LogRequests {
  const serving = createOnDemand(serveAll)
  const stop = serving.signal
  const pending = new Map<string, PendingRequest>()
  let hinted = false
  let lastReadMs = 0
  /** From when on the byte rate allows the next slice. */
  let nextSliceMs = 0

  const sleepUntil = (ms: number): Promise<void> => sleep(Math.max(0, ms - performance.now()), stop)

  function hint(): void {
    hinted = true
    serving.request()
  }

  async function serveAll(): Promise<void> {
    while ((hinted || pending.size > 0) && !stop.aborted) {
      try {
        if (hinted) await readRequests()
        for (const each of [...pending.values()]) {
          if (stop.aborted) return
          await serve(each)
        }
      } catch (error) {
        if (stop.aborted) return
        if (errorKind(error) === 'session_over') {
          void serving.stop()
          return onSessionOver(error)
        }
        log.debug(
          { event: 'log_request_failed', ...describeError(error) },
          'requests for logs could not be answered; the known ones are retried for a while',
        )
        await sleep(RETRY_MS, stop)
      }
      if (pending.size > 0) await sleep(INTERVAL_MS.least + INTERVAL_MS.each * pending.size, stop)
    }
  }

  async function readRequests(): Promise<void> {
    await sleepUntil(lastReadMs + INTERVAL_MS.least)
    if (stop.aborted) return
    hinted = false
    lastReadMs = performance.now()
    for (const request of await db.logRequestsOf(node, session)) {
      if (!pending.has(request.request))
        pending.set(request.request, {
          request,
          untilMs: performance.now() + request.wait_ms,
          state: null,
        })
    }
  }

  async function serve(each: PendingRequest): Promise<void> {
    const { request: id, assignment_id } = each.request
    const lateMs = performance.now() - each.untilMs
    if (lateMs > FORGET_AFTER_MS) return void pending.delete(id)
    const file = logFileOf(folder, assignment_id)
    const state = await logState(file)
    if (lateMs < 0 && state === each.state) return
    const answer = await answerTo(each.request, file)
    if (lateMs < 0 && (answer.data === null || answer.data.length === 0)) {
      each.state = state
      return
    }
    await sleepUntil(nextSliceMs)
    if (stop.aborted) return
    nextSliceMs =
      Math.max(nextSliceMs, performance.now()) +
      ((answer.data?.length ?? 0) / bytesPerSecond) * 1000
    await db.answerLog(node, session, id, answer)
    pending.delete(id)
  }

  async function answerTo(request: LogRequest, file: string): Promise<LogAnswer> {
    try {
      // the id becomes part of a path
      if (!/^\d{1,19}$/.test(request.assignment_id)) throw new Error('no id of an assignment')
      const slice = await readLog(
        file,
        startOf(request),
        Math.min(request.max_bytes, SLICE_LIMIT_BYTES),
      )
      const gone = slice === null ? whyGone(request.assignment_id) : null
      if (gone !== null) return { ...NOTHING, error: gone }
      if (slice === null)
        return {
          ...NOTHING,
          size: 0,
          error:
            `assignment ${request.assignment_id} has no log on ${node}: ` +
            'it has written nothing there',
        }
      const { start, bytes, next, more, size } = slice
      return { start_byte: start, data: bytes, next, more, size, error: null }
    } catch (error) {
      return {
        ...NOTHING,
        error:
          `the log of assignment ${request.assignment_id} could not be read on ${node}: ` +
          describeError(error).message,
      }
    }
  }

  return { hint, stop: serving.stop }
}

const NOTHING: LogAnswer = {
  start_byte: null,
  data: null,
  next: null,
  more: null,
  size: null,
  error: null,
}

function startOf({ from_byte, tail_lines, after }: LogRequest): LogStart {
  if (after !== null) return { after }
  return from_byte !== null ? { fromByte: Number(from_byte) } : { tailLines: tail_lines ?? 0 }
}
