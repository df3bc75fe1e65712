/**
 * What `mooring up` knows at one moment, and the changes between two such moments. Pure.
 * A terminal shows a snapshot as a table. A pipe and --json show the changes.
 */
import type { ChildState } from '../../host/restarted-child.js'
import type { EventRow, FleetRow, NodeRow, StateCount, UnplacedRow } from '../queries/rows.js'
import { statesOf } from '../terminal/columns.js'
import { eventText } from '../terminal/event-text.js'
import { fleetText } from '../terminal/fleet-text.js'
import { cell } from '../terminal/text.js'

export interface FleetView {
  fleet: FleetRow
  nodes: NodeRow[]
  states: StateCount[]
  /** The few that have waited longest. */
  unplaced: UnplacedRow[]
  /** The last events, oldest first. */
  events: EventRow[]
}

export interface ProcessView {
  name: string
  state: ChildState
  pid: number | null
  restarts: number
  note: string | null
}

export interface Snapshot {
  /** The last view that could be read; null before the first. */
  view: FleetView | null
  /** Why the view is not up to date; null when it is. */
  problem: string | null
  processes: ProcessView[]
}

export type Change =
  | { type: 'note'; text: string }
  | { type: 'database'; state: 'answers' | 'away'; text: string }
  | ({ type: 'process' } & ProcessView)
  | {
      type: 'node'
      node: string
      health: string
      assignments: number
      running: number
      states: Record<string, number>
    }
  | { type: 'node_gone'; node: string }
  | { type: 'fleet'; fleet: FleetRow }
  | { type: 'event'; event: EventRow }

export const NOTHING: Snapshot = { view: null, problem: null, processes: [] }

const FLEET_COUNTS = [
  'nodes',
  'healthy',
  'deployments',
  'assignments',
  'assigned',
  'running',
  'waiting',
  'failing',
  'hold',
  'reap_paused',
  'workers',
] as const

export function changesBetween(before: Snapshot, after: Snapshot): Change[] {
  const changes: Change[] = []
  const processes = new Map(before.processes.map((process) => [process.name, process]))
  for (const process of after.processes) {
    if (JSON.stringify(processes.get(process.name)) !== JSON.stringify(process))
      changes.push({ type: 'process', ...process })
  }
  if (after.problem !== null && before.problem === null)
    changes.push({ type: 'database', state: 'away', text: after.problem })
  if (after.problem === null && before.problem !== null)
    changes.push({ type: 'database', state: 'answers', text: 'the database answers again' })
  if (after.view) changes.push(...viewChanges(before.view, after.view))
  return changes
}

function viewChanges(before: FleetView | null, after: FleetView): Change[] {
  const changes: Change[] = newEvents(before?.events ?? after.events, after.events).map(
    (event) => ({ type: 'event', event }),
  )
  const known = new Map(
    (before?.nodes ?? []).map((node) => [node.node, nodeChange(node, before!.states)]),
  )
  for (const node of after.nodes) {
    const change = nodeChange(node, after.states)
    if (JSON.stringify(known.get(node.node)) !== JSON.stringify(change)) changes.push(change)
    known.delete(node.node)
  }
  for (const node of known.keys()) changes.push({ type: 'node_gone', node })
  if (!before || FLEET_COUNTS.some((key) => before.fleet[key] !== after.fleet[key]))
    changes.push({ type: 'fleet', fleet: after.fleet })
  return changes
}

function nodeChange(node: NodeRow, states: readonly StateCount[]) {
  return {
    type: 'node' as const,
    node: node.node,
    health: node.health,
    assignments: node.assignments,
    running: node.running,
    states: statesOf(node.node, states),
  }
}

/**
 * Events of `after` that `before` does not hold. All ids are compared, not the highest one: ids
 * come from a sequence and become visible at commit, so a lower id may appear after a higher one.
 */
export function newEvents(before: readonly EventRow[], after: readonly EventRow[]): EventRow[] {
  const known = new Set(before.map((event) => event.id))
  return after.filter((event) => !known.has(event.id))
}

export function changeLine(change: Change): string {
  switch (change.type) {
    case 'note':
      return change.text
    case 'database':
      return `database: ${change.text}`
    case 'process':
      return `process ${change.name}: ${processText(change)}`
    case 'node': {
      const counts = `${change.assignments} assigned${stateText(change.states)}`
      return `node ${cell(change.node)}: ${change.health}, ${counts}`
    }
    case 'node_gone':
      return `node ${cell(change.node)}: forgotten`
    case 'fleet':
      return `fleet: ${fleetText(change.fleet)}`
    case 'event':
      return `event ${eventText(change.event)}`
  }
}

export function processText(process: ProcessView): string {
  const pid = process.pid === null ? '' : ` (pid ${process.pid})`
  const restarts = process.restarts > 0 ? `, restarts ${process.restarts}` : ''
  return `${process.state}${pid}${restarts}${process.note ? `: ${cell(process.note)}` : ''}`
}

function stateText(states: Record<string, number>): string {
  return Object.entries(states)
    .map(([state, count]) => `, ${count} ${state}`)
    .join('')
}
