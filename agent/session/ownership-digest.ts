/**
 * The digest of what a node owns, as mooring.heartbeat computes it: hex SHA-256 of the lines
 * id:epoch:generation:wanted:on_lost:stop_grace_ms, in order of id, joined with commas. Equal digests mean that this agent and the database hold
 * the same set and would do the same with it: stop orders, new generations, and what is done when the lease or the patience ends.
 */
import { createHash } from 'node:crypto'
import type { OwnedAssignment } from '../rows.js'

export function digestOf(
  rows: readonly Pick<
    OwnedAssignment,
    'assignment_id' | 'epoch' | 'generation' | 'wanted' | 'on_lost' | 'stop_grace_ms'
  >[],
): string {
  const lines = [...rows]
    .sort((a, b) => compareIds(a.assignment_id, b.assignment_id))
    .map(
      (row) =>
        `${row.assignment_id}:${row.epoch}:${row.generation}:${row.wanted}:${row.on_lost}:${row.stop_grace_ms}`,
    )
  return createHash('sha256').update(lines.join(',')).digest('hex')
}

/** bigint ids are positive decimal strings without leading zeros: the longer one is the greater one. */
function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}
