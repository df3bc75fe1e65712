/**
 * The digest of what a node owns, as mooring.heartbeat computes it: hex SHA-256 of the lines id:epoch:generation:wanted, in order of id,
 * joined with commas. Equal digests mean that this agent and the database hold the same set, stop orders and new generations included.
 */
import { createHash } from 'node:crypto'
import type { OwnedAssignment } from './db.js'

export function digestOf(rows: readonly Pick<OwnedAssignment, 'assignment_id' | 'epoch' | 'generation' | 'wanted'>[]): string {
  const lines = [...rows]
    .sort((a, b) => compareIds(a.assignment_id, b.assignment_id))
    .map((row) => `${row.assignment_id}:${row.epoch}:${row.generation}:${row.wanted}`)
  return createHash('sha256').update(lines.join(',')).digest('hex')
}

/** bigint ids are positive decimal strings without leading zeros: the longer one is the greater one. */
function compareIds(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0)
}
