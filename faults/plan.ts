/**
 * From a seed to what is done to which fleet and when. Values only: the same seed is the same plan.
 */
import type { Fault } from './catalogue.js'
import type { Manners } from './fleet.js'

export interface Step {
  fault: string
  /** Which host it is about. */
  host: number
  /** After the fleet has settled. */
  atMs: number
  lastsMs: number
  draw: number
}

export interface Plan {
  seed: number
  hosts: number
  manners: readonly Manners[]
  steps: readonly Step[]
}

/** mulberry32: small, well spread, the same everywhere. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/**
 * Beginnings lie so close together that a pair overlaps; a fault may be over within a beat or
 * outlive lease and margin.
 */
const LATEST_START_MS = 1_500
const LASTS_MS = { least: 150, most: 4_500 }

/** One fault or, twice as often, a pair. */
export function randomPlan(
  seed: number,
  faults: readonly Fault[],
  manners: readonly Manners[],
): Plan {
  const random = randomOf(seed)
  const whole = (least: number, most: number): number =>
    least + Math.floor(random() * (most - least + 1))
  const pick = <T>(from: readonly T[]): T => from[whole(0, from.length - 1)]!
  const hosts = whole(2, 3)
  const first = pick(faults)
  const others = faults.filter((fault) => fault !== first && goTogether(first, fault))
  const chosen = random() < 0.67 && others.length > 0 ? [first, pick(others)] : [first]
  const firstHost = whole(0, hosts - 1)
  const steps = chosen.map((fault, nr) => ({
    fault: fault.name,
    host:
      nr === 0
        ? firstHost
        : fault.at === first.at || random() < 0.5
          ? (firstHost + 1) % hosts
          : firstHost,
    atMs: whole(0, LATEST_START_MS),
    lastsMs: whole(LASTS_MS.least, LASTS_MS.most),
    draw: random(),
  }))
  return { seed, hosts, manners: Array.from({ length: whole(4, 8) }, () => pick(manners)), steps }
}

/** Of faults that would be in each other's way only one. */
export function goTogether(a: Fault, b: Fault): boolean {
  if (a.at === 'server' && b.at === 'server') return false
  // promotion and the small disk of the server need servers of their own kind
  return !(a.prepare !== undefined && a.prepare === b.prepare)
}

/**
 * One fault alone for longer than lease and margin, with one workload of each kind: one field of
 * the table.
 */
export function singlePlan(seed: number, fault: Fault, manners: readonly Manners[]): Plan {
  const random = randomOf(seed)
  return {
    seed,
    hosts: 3,
    manners,
    steps: [
      {
        fault: fault.name,
        host: 0,
        atMs: Math.floor(random() * 400),
        lastsMs: SINGLE_LASTS_MS,
        draw: random(),
      },
    ],
  }
}
export const SINGLE_LASTS_MS = 4_000
