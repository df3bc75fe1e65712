/**
 * The difference between what this node owns and what it runs: values in, actions out, no memory.
 *
 * Level-triggered: `desired` is always the complete set. So a lost hint, a repeated answer and an
 * answer that skips ten changes lead to the same state.
 * The first rule: nothing of an assignment starts while an earlier instance of it lives.
 */
import type { OwnedAssignment } from '../rows.js'

/**
 * What exists of an assignment on this host.
 *   none       nothing, or it ended and was settled
 *   preparing  being installed
 *   prepared   installed, not yet allowed to start
 *   alive      a process runs
 *   ending     the process was ordered to stop, or its leader ended before the rest of its tree
 *   waiting    it ended or failed to start, and a timer runs until the next start
 *   refused    this agent will not run it
 */
export type Phase = 'none' | 'preparing' | 'prepared' | 'alive' | 'ending' | 'waiting' | 'refused'

export interface LocalAssignment {
  assignment_id: string
  /** Of the instance that the phase is about. */
  epoch: string
  generation: string
  phase: Phase
  /**
   * The last epoch under which this session ran it, while its lease has not ended. A hold does not
   * prevent its restart.
   */
  ran_epoch: string | null
  /** Stopped because its lease was about to end. A reconcile that lists the assignment lifts it. */
  fenced: boolean
}

export type StopReason =
  | 'stop_wanted'
  | 'no_longer_owned'
  | 'epoch_changed'
  | 'generation_changed'
  | 'fenced'
  | 'agent_stops'

export type Action =
  | { kind: 'start'; assignment_id: string }
  | { kind: 'stop'; assignment_id: string; reason: StopReason }
  /**
   * Nothing of it lives, and nothing shall: cancel preparation and timer, and report 'stopped'.
   * The report is repeated, because the last one may have been lost.
   */
  | { kind: 'settle'; assignment_id: string }

export function reconcile(
  desired: readonly OwnedAssignment[],
  local: readonly LocalAssignment[],
  options: { mayStart: boolean },
): Action[] {
  const unlisted = new Map(local.map((each) => [each.assignment_id, each]))
  const actions: (Action | null)[] = []
  for (const wanted of desired) {
    actions.push(decide(wanted, unlisted.get(wanted.assignment_id), options))
    unlisted.delete(wanted.assignment_id)
  }
  for (const each of unlisted.values()) actions.push(decide(undefined, each, options))
  // stops go first: a start takes a millisecond, and no stop should wait for it
  return actions.filter((action) => action !== null).sort((a, b) => ORDER[a.kind] - ORDER[b.kind])
}

const ORDER = { stop: 0, settle: 1, start: 2 } as const

/**
 * The next action for one assignment; null when there is nothing to do.
 * `wanted` is undefined when this node does not own the assignment.
 */
export function decide(
  wanted: OwnedAssignment | undefined,
  local: LocalAssignment | undefined,
  options: { mayStart: boolean },
): Action | null {
  const assignment_id = wanted?.assignment_id ?? local?.assignment_id
  if (assignment_id === undefined) return null
  const isCurrent =
    wanted !== undefined &&
    local !== undefined &&
    local.epoch === wanted.epoch &&
    local.generation === wanted.generation
  const shallRun = wanted?.wanted === 'run' && local?.fenced !== true

  switch (local?.phase ?? 'none') {
    case 'ending':
      return null
    case 'alive':
      if (shallRun && isCurrent) return null
      return { kind: 'stop', assignment_id, reason: stopReason(wanted, local) }
    case 'preparing':
    case 'waiting':
      if (shallRun && isCurrent) return null
      break
    case 'refused':
      // Each reconcile that lists it repeats the report, because that report frees the assignment
      // and the last one may have been lost.
      if (shallRun && isCurrent) return { kind: 'settle', assignment_id }
      break
    case 'none':
    case 'prepared':
      break
  }
  if (!shallRun) return { kind: 'settle', assignment_id }
  if (!options.mayStart && local?.ran_epoch !== wanted.epoch) return null
  return { kind: 'start', assignment_id }
}

function stopReason(
  wanted: OwnedAssignment | undefined,
  local: LocalAssignment | undefined,
): StopReason {
  if (local?.fenced) return 'fenced'
  if (!wanted) return 'no_longer_owned'
  if (wanted.wanted === 'stop') return 'stop_wanted'
  return local?.epoch === wanted.epoch ? 'generation_changed' : 'epoch_changed'
}
