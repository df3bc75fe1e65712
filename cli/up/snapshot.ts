/**
 * What `mooring up` knows at one moment, and what is new since the last look. Pure.
 * The table on a terminal is drawn from a snapshot; lines on a pipe and --json are the changes between two of them.
 */
import type { EventRow, FleetRow, StateCount, UnplacedRow } from '../queries/rows.js'
import type { NodeRow } from '../queries/nodes.js'
import { cell, clock } from '../terminal/table.js'

export interface FleetView {
  fleet: FleetRow
  nodes: NodeRow[]
  states: StateCount[]
  /** The few that wait longest, when something waits. */
  unplaced: UnplacedRow[]
  /** The last events, oldest first. */
  events: EventRow[]
}

export interface ProcessView {
  name: string
  state: 'starting' | 'running' | 'stopping' | 'stopped' | 'waiting' | 'failed'
  pid: number | null
  restarts: number
  note: string | null
}

export interface Snapshot {
  /** The last one that could be read; null before the first. */
  view: FleetView | null
  /** Why the view is not of now; null when it is. */
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

export function statesOf(
  node: string | null,
  states: readonly StateCount[],
): Record<string, number> {
  return Object.fromEntries(
    states
      .filter((count) => count.node === node)
      .map((count) => [count.run_state, count.assignments]),
  )
}

/**
 * Events of `after` that `before` does not hold. Ids come from a sequence and become visible at commit, so a lower id
 * may turn up after a higher one: what was seen is compared, not the highest id.
 */
export function newEvents(before: readonly EventRow[], after: readonly EventRow[]): EventRow[] {
  const seen = new Set(before.map((event) => event.id))
  return after.filter((event) => !seen.has(event.id))
}

export function changeLine(change: Change): string {
  switch (change.type) {
    case 'note':
      return change.text
    case 'database':
      return `database: ${change.text}`
    case 'process':
      return `process ${change.name}: ${processText(change)}`
    case 'node':
      return `node ${cell(change.node)}: ${change.health}, ${change.assignments} assigned${stateText(change.states)}`
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

export function fleetText(fleet: FleetRow): string {
  const hold =
    fleet.hold === null
      ? ''
      : ` - on hold, nothing is claimed, reaped or started: ${cell(fleet.hold)}`
  const paused =
    fleet.reap_paused === null
      ? ''
      : ` - reaping is paused: ${cell(fleet.reap_paused)} (are they dead? \`mooring resume-reaping\`)`
  return (
    `${fleet.healthy} of ${fleet.nodes} nodes healthy, ${fleet.deployments} deployments, ${fleet.assigned} of ${fleet.assignments} assigned, ` +
    `${fleet.running} running, ${fleet.waiting} waiting, ${fleet.workers} worker${fleet.workers === 1 ? '' : 's'}${hold}${paused}`
  )
}

export function stateText(states: Record<string, number>): string {
  return Object.entries(states)
    .map(([state, count]) => `, ${count} ${state}`)
    .join('')
}

export function eventText(event: EventRow): string {
  const parts = [clock(event.at), event.kind]
  if (event.assignment_id !== null) parts.push(`assignment ${event.assignment_id}`)
  if (event.deployment_id !== null) parts.push(`deployment ${event.deployment_id}`)
  if (event.node !== null) parts.push(cell(event.node))
  if (event.epoch !== null) parts.push(`epoch ${event.epoch}`)
  if (event.reason !== null && event.reason !== '') parts.push(`- ${cell(event.reason)}`)
  return parts.join(' ')
}
