/**
 * The judge: from the stamps of the workloads to what went wrong. Values in, values out; it knows
 * neither agents nor database.
 *
 * A life is one process, from its first stamp to its last. Stamps are 15 ms apart, so a life is a
 * little longer than it looks. Every overlap found is real, and was at least as long as reported.
 * An instance is what one start of an assignment brought forth, grandchildren included.
 */
export interface Life {
  assignment: string
  node: string
  epoch: bigint
  pid: number
  copy: string
  role: 'main' | 'grandchild'
  /** Milliseconds on the clock all processes of the machine share. */
  firstMs: number
  lastMs: number
}

/** One row a workload wrote under assert_owner(), in the order in which they were written. */
export interface Written {
  assignment: string
  epoch: bigint
  node: string
}

export interface Case {
  lives: readonly Life[]
  written: readonly Written[]
  /** Every assignment that has to run at the end. */
  assignments: readonly string[]
  /** Service is looked at between these; at the end everything has to run. */
  fromMs: number
  toMs: number
  /** Nodes that were reaped although nothing was done to them. */
  robbed: readonly string[]
  /** Assignments to which nothing was done that may end them. */
  unharmed?: readonly string[]
}

export interface Overlap {
  assignment: string
  fromMs: number
  ms: number
  /** The process that was there first, and the one that came too early. */
  by: readonly [
    Pick<Life, 'node' | 'epoch' | 'pid' | 'role'>,
    Pick<Life, 'node' | 'epoch' | 'pid' | 'role'>,
  ]
}

export interface Verdict {
  overlaps: readonly Overlap[]
  /** The longest time for which two instances of one assignment were alive; it has to be 0. */
  overlapMs: number
  /** The longest time without service of each assignment; 0 where it was never interrupted. */
  gaps: readonly { assignment: string; ms: number }[]
  /** An instance that came later under a lower epoch, or under the epoch of another node. */
  epochsBack: readonly { assignment: string; before: string; after: string }[]
  /** Wanted, and not running at the end. */
  lost: readonly string[]
  robbed: readonly string[]
  /** What ran at fromMs and was ended, although nothing was done that may end it. */
  killed: readonly string[]
  /** Rows committed by a process that did not own the assignment any more. */
  lateWrites: readonly Written[]
  ok: boolean
}

/** Shorter holes are the grain of the stamps on a busy machine. */
export const SHORTEST_GAP_MS = 100
/** A process that stamped so short a time before the end is alive at the end. */
export const ALIVE_MS = 250

export function judge({
  lives,
  written,
  assignments,
  fromMs,
  toMs,
  robbed,
  unharmed = [],
}: Case): Verdict {
  const overlaps: Overlap[] = []
  const gaps: { assignment: string; ms: number }[] = []
  const epochsBack: { assignment: string; before: string; after: string }[] = []
  const lost: string[] = []
  for (const assignment of assignments) {
    const mine = lives
      .filter((life) => life.assignment === assignment)
      .sort((a, b) => a.firstMs - b.firstMs)
    overlaps.push(...overlapsOf(mine))
    epochsBack.push(...backwards(mine))
    gaps.push({ assignment, ms: longestGap(mine, fromMs, toMs) })
    if (!mine.some((life) => life.role === 'main' && life.lastMs >= toMs - ALIVE_MS))
      lost.push(assignment)
  }
  const killed = unharmed.filter((assignment) =>
    lives.some(
      (life) =>
        life.assignment === assignment &&
        life.firstMs < fromMs &&
        life.lastMs >= fromMs &&
        life.lastMs < toMs - ALIVE_MS,
    ),
  )
  const lateWrites = late(written)
  return {
    overlaps,
    gaps,
    epochsBack,
    lost,
    lateWrites,
    robbed: [...robbed],
    killed,
    overlapMs: overlaps.reduce((most, { ms }) => Math.max(most, ms), 0),
    ok: [overlaps, epochsBack, lost, lateWrites, robbed, killed].every(
      ({ length }) => length === 0,
    ),
  }
}

/** Each two processes of different instances that were alive at one time. */
function overlapsOf(lives: readonly Life[]): Overlap[] {
  const found: Overlap[] = []
  for (const [nr, first] of lives.entries()) {
    for (const second of lives.slice(nr + 1)) {
      const ms = Math.min(first.lastMs, second.lastMs) - second.firstMs
      if (second.copy !== first.copy && ms > 0)
        found.push({
          assignment: first.assignment,
          fromMs: second.firstMs,
          ms,
          by: [who(first), who(second)],
        })
    }
  }
  return found
}

const who = ({ node, epoch, pid, role }: Life) => ({ node, epoch, pid, role })

function backwards(lives: readonly Life[]) {
  const starts = lives.filter(({ role }) => role === 'main')
  return starts.slice(1).flatMap((after, nr) => {
    const before = starts[nr]!
    const back =
      after.epoch < before.epoch || (after.epoch === before.epoch && after.node !== before.node)
    return back
      ? [
          {
            assignment: after.assignment,
            before: `${before.epoch} on ${before.node}`,
            after: `${after.epoch} on ${after.node}`,
          },
        ]
      : []
  })
}

/** Service is what the main processes give; a grandchild alone is a leftover. */
function longestGap(lives: readonly Life[], fromMs: number, toMs: number): number {
  let longest = 0
  let servedUntilMs = fromMs
  for (const { role, firstMs, lastMs } of lives) {
    if (role !== 'main') continue
    longest = Math.max(longest, Math.min(firstMs, toMs) - servedUntilMs)
    servedUntilMs = Math.max(servedUntilMs, lastMs)
  }
  longest = Math.max(longest, toMs - servedUntilMs)
  return longest < SHORTEST_GAP_MS ? 0 : Math.round(longest)
}

/**
 * Rows are in the order in which they were written, and a change of epoch waits for a writer. So an
 * epoch below an earlier one came too late.
 */
function late(written: readonly Written[]): Written[] {
  const highest = new Map<string, bigint>()
  return written.filter(({ assignment, epoch }) => {
    const seen = highest.get(assignment) ?? epoch
    highest.set(assignment, epoch > seen ? epoch : seen)
    return epoch < seen
  })
}
