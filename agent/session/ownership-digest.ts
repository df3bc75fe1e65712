/**
 * The digest of what a node owns, exactly as mooring.heartbeat computes it: the hex SHA-256 of the
 * lines id:epoch:generation:wanted:on_lost:stop_grace_ms, in order of id, joined with commas.
 *
 * Equal digests mean that agent and database hold the same set and would do the same with it:
 * stop orders, new generations, and what happens at the end of a lease or a grace.
 */
import { createHash } from 'node:crypto'
import type { OwnedAssignment } from '../rows.js'

type DigestedRow = Pick<
  OwnedAssignment,
  'assignment_id' | 'epoch' | 'generation' | 'wanted' | 'on_lost' | 'stop_grace_ms'
>

export function digestOf(rows: readonly DigestedRow[]): string {
  const lines = [...rows]
    .sort((a, b) => compareIds(a.assignment_id, b.assignment_id))
    .map((row) =>
      [
        row.assignment_id,
        row.epoch,
        row.generation,
        row.wanted,
        row.on_lost,
        row.stop_grace_ms,
      ].join(':'),
    )
  return createHash('sha256').update(lines.join(',')).digest('hex')
}

/** bigint ids are positive decimal strings without leading zeros: the longer is the greater. */
function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}
