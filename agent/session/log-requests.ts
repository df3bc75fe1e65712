/**
 * Answers those who want to read a log that is on this host, through the database: request_log() -> hint -> log_requests_of() -> answer_log() -> read_log().
 *
 * Whatever is asked, and however often, costs the host no more than this: one slice is read at a time, LOG_BYTES_PER_SECOND in the long run, over a connection of its
 * own, so that beats and reports never wait for it; a storm of hints is one look at the requests in a pause. Requests that wait for something new are
 * looked after by looking at the file, not by asking the database.
 *
 * A hint that is lost is not looked for: whoever asks repeats it, and gives up by himself.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { LogAnswer, LogRequest } from '../rows.js'
import { pause } from '../../host/waiting.js'
import { describeError, errorKind } from '../../postgres/errors.js'
import {
  logFileOf,
  logState,
  readLog,
  SLICE_LIMIT_BYTES,
  type LogStart,
} from '../../state-folder/log-reader.js'

export interface LogRequests {
  /** Somebody asks. */
  hint(): void
  /** Answers nothing more. Resolves when nothing is in flight. Idempotent. */
  stop(): Promise<void>
}

export interface LogRequestsOptions {
  db: Pick<AgentDb, 'logRequestsOf' | 'answerLog'>
  node: string
  session: string
  /** The agent's own, with logs/ in it. */
  folder: string
  /** Of a log that is not there; null: nothing is known. */
  whyGone(assignmentId: string): string | null
  onOver(error: unknown): void
  log: Logger
  bytesPerSecond?: number
}

export const LOG_BYTES_PER_SECOND = 2 * 1024 * 1024
/** Between two looks at the requests, and at the logs that are waited for: longer where these are many. */
const PAUSE_MS = { least: 50, each: 2 }

const RETRY_MS = 500
/** Whoever asked has given up by then. */
const FORGET_AFTER_MS = 10_000

interface Waiting {
  asked: LogRequest
  untilMs: number
  state: string | null
}

export function createLogRequests({
  db,
  node,
  session,
  folder,
  whyGone,
  onOver,
  log,
  bytesPerSecond = LOG_BYTES_PER_SECOND,
}: LogRequestsOptions): LogRequests {
  const stopping = new AbortController()
  const waiting = new Map<string, Waiting>()
  let hinted = false
  let lookedMs = 0
  /** When what was answered so far is paid for. */
  let freeMs = 0
  let working: Promise<void> | null = null

  const until = (ms: number): Promise<void> =>
    pause(Math.max(0, ms - performance.now()), stopping.signal)

  function hint(): void {
    hinted = true
    if (stopping.signal.aborted) return
    working ??= work().finally(() => {
      working = null
      // hinted between the last look and now
      if (hinted) hint()
    })
  }

  async function work(): Promise<void> {
    while ((hinted || waiting.size > 0) && !stopping.signal.aborted) {
      try {
        if (hinted) await look()
        for (const each of [...waiting.values()]) {
          if (stopping.signal.aborted) return
          await serve(each)
        }
      } catch (error) {
        if (stopping.signal.aborted) return
        if (errorKind(error) === 'session_over') {
          stopping.abort()
          return onOver(error)
        }
        log.debug(
          { event: 'log_request_failed', ...describeError(error) },
          'requests for logs could not be answered; what is known of them is tried again for a while',
        )
        await pause(RETRY_MS, stopping.signal)
      }
      if (waiting.size > 0)
        await pause(PAUSE_MS.least + PAUSE_MS.each * waiting.size, stopping.signal)
    }
  }

  async function look(): Promise<void> {
    await until(lookedMs + PAUSE_MS.least)
    if (stopping.signal.aborted) return
    hinted = false
    lookedMs = performance.now()
    const asked = await db.logRequestsOf(node, session)
    for (const each of asked) {
      if (!waiting.has(each.request))
        waiting.set(each.request, {
          asked: each,
          untilMs: performance.now() + each.wait_ms,
          state: null,
        })
    }
  }

  async function serve(each: Waiting): Promise<void> {
    const { request, assignment_id } = each.asked
    const late = performance.now() - each.untilMs
    if (late > FORGET_AFTER_MS) return void waiting.delete(request)
    const file = logFileOf(folder, assignment_id)
    const state = await logState(file)
    if (late < 0 && state === each.state) return
    const answer = await answerTo(each.asked, file)
    if (late < 0 && (answer.data === null || answer.data.length === 0)) {
      each.state = state
      return
    }
    await until(freeMs)
    if (stopping.signal.aborted) return
    freeMs =
      Math.max(freeMs, performance.now()) + ((answer.data?.length ?? 0) / bytesPerSecond) * 1000
    await db.answerLog(node, session, request, answer)
    waiting.delete(request)
  }

  async function answerTo(asked: LogRequest, file: string): Promise<LogAnswer> {
    try {
      // the id becomes a path
      if (!/^\d{1,19}$/.test(asked.assignment_id)) throw new Error('no id of an assignment')
      const slice = await readLog(
        file,
        startOf(asked),
        Math.min(asked.max_bytes, SLICE_LIMIT_BYTES),
      )
      const gone = slice === null ? whyGone(asked.assignment_id) : null
      if (gone !== null) return { ...NOTHING, error: gone }
      if (slice === null)
        return {
          ...NOTHING,
          size: 0,
          error: `assignment ${asked.assignment_id} has no log on ${node}: it has written nothing there`,
        }
      const { start, bytes, next, more, size } = slice
      return { start_byte: start, data: bytes, next, more, size, error: null }
    } catch (error) {
      return {
        ...NOTHING,
        error: `the log of assignment ${asked.assignment_id} could not be read on ${node}: ${describeError(error).message}`,
      }
    }
  }

  return {
    hint,
    async stop() {
      stopping.abort()
      await working
    },
  }
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
