/**
 * The heartbeat: tells the database that this node lives, and hears whether what it runs is still its own.
 *
 * One request is in flight at any time, on a connection of its own and with a deadline on the monotonic clock. Its time t is the boot clock
 * when the request is *started* (see lease.ts). A beat that failed is repeated soon, since a lease holds only a few beats; there is no limit
 * to the attempts, because a node that cannot reach the database is stopped by its leases and by nothing else.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { BeatAnswer, UsageSample } from '../rows.js'
import { bootClock, type BootClock } from '../../host/boot-clock.js'
import { describeError, errorCode, errorKind } from '../../postgres/errors.js'
import { createBackoff } from '../../host/backoff.js'

/** A beat that was answered. */
export interface Beat {
  /** Boot clock at the start of the request. */
  tMs: number
  answer: BeatAnswer
  /** db.connectionEpoch() at the answer. */
  connectionEpoch: number
}

export interface Heartbeat {
  /** Beats at once and then for ever. */
  start(): void
  /** Brings the next beat forward. */
  beatSoon(): void
  /** One beat; false when it failed and should be repeated. Rejects never. */
  runOnce(): Promise<boolean>
  /** Resolves when the beat in flight has ended. Idempotent, legal before start. */
  stop(): Promise<void>
}

export interface HeartbeatOptions {
  db: Pick<AgentDb, 'heartbeat' | 'tick' | 'connectionEpoch'>
  node: string
  session: string
  leaseTtlMs: number
  beatIntervalMs: number
  sample: () => UsageSample | Promise<UsageSample>
  running: () => number
  onBeat(beat: Beat): void
  /** The session is over: another one holds the name, or the node was forgotten. Called once. */
  onOver(error: unknown): void
  log: Logger
  clock?: BootClock
}

const MIN_BEAT_DEADLINE_MS = 100
const FIRST_RETRY_MS = 50
const NOT_MEASURED: UsageSample = {
  cpu_pct: null,
  memory_mb: null,
  disk_free_pct: null,
  disk_free_bytes: null,
}

/** Two lost beats are harmless by default (a beat each 3 s, a lease of 12): 2 s is what one may take. In scaled-down fleets a sixth of the lease. */
export const MAX_BEAT_DEADLINE_MS = 2_000
export function beatDeadlineMs(leaseTtlMs: number): number {
  return Math.max(MIN_BEAT_DEADLINE_MS, Math.min(MAX_BEAT_DEADLINE_MS, leaseTtlMs / 6))
}

export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { db, node, session, log, clock = bootClock } = options
  const backoff = createBackoff(
    FIRST_RETRY_MS,
    Math.max(FIRST_RETRY_MS, Math.min(1_000, options.beatIntervalMs / 3)),
  )
  let leaseTtlMs = options.leaseTtlMs
  let nextBeatMs = options.beatIntervalMs
  let lastStartMs = 0
  let wakeUp: (() => void) | null = null
  let loop: Promise<void> | null = null
  let failing = false
  let ticking = false
  let ended = false

  async function runOnce(): Promise<boolean> {
    const sample = await measure()
    const tMs = clock()
    lastStartMs = tMs
    let answer: BeatAnswer
    try {
      answer = await db.heartbeat(
        node,
        session,
        sample,
        options.running(),
        beatDeadlineMs(leaseTtlMs),
      )
    } catch (error) {
      failed(error)
      return false
    }
    leaseTtlMs = answer.lease_ttl_ms
    nextBeatMs = answer.next_beat_ms
    backoff.reset()
    if (failing) log.info({ event: 'database_back' }, 'heartbeats are answered again')
    failing = false
    options.onBeat({ tMs, answer, connectionEpoch: db.connectionEpoch() })
    if (answer.round_overdue) void tick()
    return true
  }

  function failed(error: unknown): void {
    if (ended) return
    if (errorKind(error) === 'session_over') {
      ended = true
      options.onOver(error)
      return
    }
    if (!failing)
      log.warn(
        { event: 'beat_failed', ...describeError(error) },
        'a heartbeat was not answered; trying again until one is',
      )
    failing = true
  }

  /** A figure that cannot be had is null, never zero, and never a reason not to beat. */
  async function measure(): Promise<UsageSample> {
    try {
      return await options.sample()
    } catch (error) {
      log.debug({ event: 'sample_failed', ...describeError(error) }, 'usage could not be measured')
      return NOT_MEASURED
    }
  }

  /** Beside the beats, never in their way. The database lets one caller through for each round. */
  async function tick(): Promise<void> {
    if (ticking || ended) return
    ticking = true
    try {
      await db.tick(`agent ${node}`)
    } catch (error) {
      log.debug(
        { event: 'tick_failed', code: errorCode(error) },
        'the rounds could not be run from here',
      )
    } finally {
      ticking = false
    }
  }

  async function run(): Promise<void> {
    while (!ended) {
      const answered = await runOnce()
      if (ended) break
      // the interval runs from the start of the request: a slow answer does not stretch it
      await sleep(answered ? Math.max(0, lastStartMs + nextBeatMs - clock()) : backoff.nextMs())
    }
  }

  function sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => wakeUp?.(), ms)
      wakeUp = () => {
        clearTimeout(timer)
        wakeUp = null
        resolve()
      }
    })
  }

  return {
    start() {
      loop ??= run()
    },
    beatSoon() {
      // while beats fail, the back-off says when
      if (!failing) wakeUp?.()
    },
    runOnce,
    async stop() {
      ended = true
      wakeUp?.()
      await loop
    },
  }
}
