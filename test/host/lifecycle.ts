/**
 * The stress test of the contract in host/lifecycle.ts, one function for all parts.
 * After river's startstoptest.Stress.
 */
import { setImmediate as nextTurn, setTimeout as timeout } from 'node:timers/promises'
import { raceDeadline } from '../../host/deadline.js'
import type { Lifecycle } from '../../host/lifecycle.js'

export interface StressOptions {
  rounds?: number
  /** How long one stop() may take. */
  stopWithinMs?: number
  /** The longest wait between two calls: long enough that some lives get to work. */
  longestWaitMs?: number
  seed?: number
}

/** stop() of a part may return before it resolves, and start() may be asynchronous. */
type Part = { start(): unknown; stop(): unknown }

/**
 * Starts and stops new parts in random orders, concurrently, and returns what broke the contract.
 * Each round ends with two more stops and one late start, and looks for resources left behind.
 */
export async function lifecycleOffences(
  make: () => Part | Lifecycle,
  { rounds = 20, stopWithinMs = 10_000, longestWaitMs = 20, seed = 1 }: StressOptions = {},
): Promise<string[]> {
  const random = createRandom(seed)
  const offences: string[] = []
  for (let round = 1; round <= rounds && offences.length === 0; round += 1) {
    const before = countResources()
    const part = make()
    const calls = Array.from({ length: 1 + Math.floor(random() * 6) }, () =>
      random() < 0.5 ? 'start' : 'stop',
    )
    const said = `round ${round} of seed ${seed}: ${calls.join(', ')}`
    const stop = async (): Promise<void> => {
      try {
        await raceDeadline(stopWithinMs, Promise.resolve(part.stop()), () => {
          offences.push(`${said}: stop() did not resolve within ${stopWithinMs} ms`)
        })
      } catch (error) {
        offences.push(`${said}: stop() rejected: ${String(error)}`)
      }
    }
    const stops: Promise<void>[] = []
    for (const call of calls) {
      if (call === 'start') part.start()
      else stops.push(stop())
      await waitAWhile(random, longestWaitMs)
    }
    stops.push(stop(), stop())
    await Promise.all(stops)
    part.start()
    await stop()
    const left = await resourcesLeft(before)
    if (left.length > 0) offences.push(`${said}: left behind: ${left.join(', ')}`)
  }
  return offences
}

async function waitAWhile(random: () => number, longestMs: number): Promise<void> {
  const kind = random()
  if (kind < 0.3) return
  if (kind < 0.5) await Promise.resolve()
  else if (kind < 0.7) await nextTurn()
  else await timeout(random() * longestMs)
}

/** A socket or a process that was destroyed disappears some turns of the event loop later. */
async function resourcesLeft(before: ReadonlyMap<string, number>): Promise<string[]> {
  for (let turn = 0; ; turn += 1) {
    const left = [...countResources()]
      .map(([name, count]) => ({ name, more: count - (before.get(name) ?? 0) }))
      .filter(({ more }) => more > 0)
    if (left.length === 0 || turn === 200) return left.map(({ name, more }) => `${more} ${name}`)
    await nextTurn()
    if (turn % 10 === 9) await timeout(5)
  }
}

function countResources(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/** mulberry32: a failure can be repeated by its seed. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
