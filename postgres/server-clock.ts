/**
 * A process that ticks is a second clock for the database. With each tick it sends the server time
 * of its last tick, and the time passed since then on its boot clock, which settimeofday does not
 * move. mooring.tick compares both, so a step of the server's clock leads to no reaping.
 */
import { bootClock, type BootClock } from '../host/boot-clock.js'

export interface ServerClockReading {
  /** clock_ms of the last answer; null: no tick was answered. */
  clockMs: number | null
  /** How long ago that tick was sent, on this machine's boot clock. */
  sinceMs: number | null
}

export interface ServerClock {
  /** To be called just before a tick is sent. */
  beforeTick(): ServerClockReading
  /**
   * To be called with the answer. After a tick without an answer the next reading is null, because
   * that tick may have to open a connection first and arrive late.
   */
  afterTick(clockMs: number): void
}

export function createServerClock(clock: BootClock = bootClock): ServerClock {
  let sentAtMs = 0
  let last: { clockMs: number; sentAtMs: number } | null = null
  return {
    beforeTick() {
      const before = last
      last = null
      sentAtMs = clock()
      return before === null
        ? { clockMs: null, sinceMs: null }
        : { clockMs: before.clockMs, sinceMs: sentAtMs - before.sentAtMs }
    },
    afterTick(clockMs) {
      last = { clockMs, sentAtMs }
    },
  }
}
