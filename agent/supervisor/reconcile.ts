/**
 * The difference between what this node owns and what it runs: values in, actions out, no memory.
 *
 * Level-triggered. `desired` is always the complete set, so a lost hint, a repeated answer or an answer that skipped ten changes lead to the same place.
 * The one rule behind all others: nothing is started for an assignment while anything of an earlier copy of it is alive.
 */
import type { OwnedAssignment } from '../rows.js'

/**
 * What of an assignment exists here.
 *   none       nothing, or it ended and was settled
 *   preparing  being installed
 *   prepared   installed, waiting for leave to start
 *   alive      a process runs
 *   ending     told to stop, or its leader ended and the rest of its tree has not yet
 *   waiting    ended or failed to start, next start is timed
 *   refused    this agent will not run it
 */
export type Phase = 'none' | 'preparing' | 'prepared' | 'alive' | 'ending' | 'waiting' | 'refused'

export interface Running {
  assignment_id: string
  /** Of the copy that the phase is about. */
  epoch: string
  generation: string
  phase: Phase
  /** The last epoch under which this session started a process of it; it may be restarted under that epoch even when nothing new may start. */
  ran_epoch: string | null
  /** Stopped because the lease was about to end. A reconcile that lists the assignment lifts it. */
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
  /** Nothing of it is alive and nothing shall be: call off what is prepared or timed, and say 'stopped' (again: the last time may have been lost). */
  | { kind: 'settle'; assignment_id: string }

export function reconcile(
  desired: readonly OwnedAssignment[],
  running: readonly Running[],
  options: { mayStart: boolean },
): Action[] {
  const runningById = new Map(running.map((copy) => [copy.assignment_id, copy]))
  const actions: Action[] = []
  for (const want of desired) {
    const action = decide(want, runningById.get(want.assignment_id), options)
    if (action) actions.push(action)
    runningById.delete(want.assignment_id)
  }
  for (const copy of runningById.values()) {
    const action = decide(undefined, copy, options)
    if (action) actions.push(action)
  }
  // Ends before beginnings: a start takes a millisecond, and what must go should not wait for it.
  return actions.sort((a, b) => ORDER[a.kind] - ORDER[b.kind])
}

const ORDER = { stop: 0, settle: 1, start: 2 } as const

/** For one assignment: `want` undefined is "not owned by this node". Null is "nothing to do". */
export function decide(
  want: OwnedAssignment | undefined,
  have: Running | undefined,
  options: { mayStart: boolean },
): Action | null {
  const assignment_id = want?.assignment_id ?? have?.assignment_id
  if (assignment_id === undefined) return null
  const phase = have?.phase ?? 'none'
  const same =
    want !== undefined &&
    have !== undefined &&
    have.epoch === want.epoch &&
    have.generation === want.generation
  const wanted = want?.wanted === 'run' && have?.fenced !== true

  switch (phase) {
    case 'ending':
      return null
    case 'alive':
      return wanted && same ? null : { kind: 'stop', assignment_id, reason: stopReason(want, have) }
    case 'preparing':
    case 'waiting':
      if (wanted && same) return null
      break
    case 'refused':
      // Said again on each reconcile that still lists it: the assignment is freed by that report, and the last one may have been lost.
      if (wanted && same) return { kind: 'settle', assignment_id }
      break
    case 'none':
    case 'prepared':
      break
  }
  if (!wanted) return { kind: 'settle', assignment_id }
  if (!options.mayStart && have?.ran_epoch !== want.epoch) return null
  return { kind: 'start', assignment_id }
}

function stopReason(want: OwnedAssignment | undefined, have: Running | undefined): StopReason {
  if (have?.fenced) return 'fenced'
  if (!want) return 'no_longer_owned'
  if (want.wanted === 'stop') return 'stop_wanted'
  return have?.epoch === want.epoch ? 'generation_changed' : 'epoch_changed'
}
