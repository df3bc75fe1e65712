/**
 * Who ticks is a second clock for the database: told what the database's clock showed at the last tick, and how long ago that was by a clock that no
 * settimeofday moves, mooring.tick notices a step of its own clock, and nothing is reaped on the strength of it.
 */
import { bootClock, type BootClock } from '../host/boot-clock.js'

export interface LastTick {
  /** What the database showed then (clock_ms of its answer); null: nothing was answered yet. */
  clockMs: number | null
  /** How long ago it was asked, by this machine's boot clock. */
  sinceMs: number | null
}

export interface TickWatch {
  /** To be called just before a tick is sent. */
  asking(): LastTick
  /** The tick that asked last was answered. After one that was not, the next says nothing: it may have to open a connection first, and arrive late. */
  answered(clockMs: number): void
}

export function createTickWatch(clock: BootClock = bootClock): TickWatch {
  let askedAtMs = 0
  let last: { clockMs: number; askedAtMs: number } | null = null
  return {
    asking() {
      const before = last
      last = null
      askedAtMs = clock()
      return before === null
        ? { clockMs: null, sinceMs: null }
        : { clockMs: before.clockMs, sinceMs: askedAtMs - before.askedAtMs }
    },
    answered(clockMs) {
      last = { clockMs, askedAtMs }
    },
  }
}
