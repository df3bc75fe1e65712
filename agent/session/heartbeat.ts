/**
 * The heartbeat: reports that this node lives, and learns whether what it runs is still its own.
 *
 * One request is in flight at any time, on a connection of its own, with a deadline on the
 * monotonic clock. Its time t is the boot clock at the *start* of the request (see lease.ts).
 * A failed beat is repeated soon, because a lease is only a few beats long. Attempts are
 * unlimited: only its leases stop a node that cannot reach the database.
 */
import type { Logger } from 'pino'
import type { AgentDb } from './verbs.js'
import type { BeatAnswer, UsageSample } from '../rows.js'
import { bootClock, type BootClock } from '../../host/boot-clock.js'
import { describeError, errorCode, errorKind } from '../../postgres/errors.js'
import { createBackoff } from '../../host/backoff.js'
import { createLifecycle, type Lifecycle } from '../../host/lifecycle.js'
import { sleep } from '../../host/waiting.js'

/** A beat that was answered. */
export interface Beat {
  /** Boot clock at the start of the request. */
  tMs: number
  answer: BeatAnswer
  /** db.connectionEpoch() at the answer. */
  connectionEpoch: number
}

/** start() beats at once. */
export interface Heartbeat extends Lifecycle {
  /** Brings the next beat forward. */
  beatSoon(): void
  /** One beat. False when it failed and must be repeated. Never rejects. */
  runOnce(): Promise<boolean>
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
  /** Another session holds the name, or the node was forgotten. Called once. */
  onSessionOver(error: unknown): void
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

/**
 * One beat may take 2 s. By default two lost beats are harmless (a beat each 3 s, a lease of 12 s).
 * A fleet with shorter leases gives a beat a sixth of the lease.
 */
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
  let wakeUp = (): void => {}
  let failing = false
  let ticking = false
  const life = createLifecycle(beatUntilStopped)
  life.signal.addEventListener('abort', () => wakeUp())

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
      onFailure(error)
      return false
    }
    leaseTtlMs = answer.lease_ttl_ms
    nextBeatMs = answer.next_beat_ms
    backoff.reset()
    if (failing) log.info({ event: 'database_back' }, 'the database answers heartbeats again')
    failing = false
    options.onBeat({ tMs, answer, connectionEpoch: db.connectionEpoch() })
    if (answer.round_overdue) void tick()
    return true
  }

  function onFailure(error: unknown): void {
    if (life.signal.aborted) return
    if (errorKind(error) === 'session_over') {
      void life.stop()
      options.onSessionOver(error)
      return
    }
    if (!failing)
      log.warn(
        { event: 'beat_failed', ...describeError(error) },
        'the database did not answer a heartbeat; retrying until it does',
      )
    failing = true
  }

  /** A figure that cannot be measured is null, never zero, and never prevents a beat. */
  async function measure(): Promise<UsageSample> {
    try {
      return await options.sample()
    } catch (error) {
      log.debug({ event: 'sample_failed', ...describeError(error) }, 'usage could not be measured')
      return NOT_MEASURED
    }
  }

  /** Runs beside the beats and never delays one. The database admits one caller for each round. */
  async function tick(): Promise<void> {
    if (ticking || life.signal.aborted) return
    ticking = true
    try {
      await db.tick(`agent ${node}`)
    } catch (error) {
      log.debug(
        { event: 'tick_failed', code: errorCode(error) },
        'this agent could not run a round',
      )
    } finally {
      ticking = false
    }
  }

  async function beatUntilStopped(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const answered = await runOnce()
      if (signal.aborted) break
      const early = new AbortController()
      wakeUp = () => early.abort()
      // the interval counts from the start of the request, so a slow answer does not stretch it
      const waitMs = answered ? Math.max(0, lastStartMs + nextBeatMs - clock()) : backoff.nextMs()
      await sleep(waitMs, early.signal)
    }
  }

  return {
    start: life.start,
    stop: life.stop,
    beatSoon() {
      // while beats fail, the back-off decides
      if (!failing) wakeUp()
    },
    runOnce,
  }
}
