/** The columns of deployments, assignments and nodes, the same in every table. */
import type { DeploymentRow, NodeRow, StateCount } from '../queries/rows.js'
import { cell, colors, interval, since } from './text.js'
import type { Column, Row } from './table.js'

export const DEPLOYMENT_COLUMNS: readonly Column[] = [
  { key: 'id', align: 'right' },
  { key: 'name' },
  { key: 'package_name', title: 'package', leaves: 2, text: (_, row) => packageText(row) },
  { key: 'type', leaves: 1 },
  {
    key: 'running',
    align: 'right',
    text: (_, row) => `${cell(row['running'])}/${wantedOf(row as DeploymentRow)}`,
  },
  {
    key: 'state',
    text: (_, row) => stateOf(row as DeploymentRow),
    paint: (text) => (/waiting|failing|unknown/.test(text) ? colors.yellow(text) : text),
  },
  { key: 'created_at', title: 'age', align: 'right', leaves: 3, text: since },
]

export const DEPLOYMENT_COLUMNS_WIDE: readonly Column[] = [
  ...DEPLOYMENT_COLUMNS,
  { key: 'policy' },
  { key: 'selector' },
  { key: 'pinned_node', title: 'pinned to' },
  { key: 'generation', align: 'right' },
  { key: 'labels' },
  { key: 'updated_at', title: 'changed' },
]

export const ASSIGNMENT_COLUMNS: readonly Column[] = [
  { key: 'assignment_id', title: 'assignment', align: 'right' },
  { key: 'deployment_id', title: 'deployment', align: 'right', leaves: 5 },
  { key: 'name' },
  { key: 'ordinal', title: '#', align: 'right' },
  { key: 'node' },
  { key: 'epoch', align: 'right', leaves: 1 },
  { key: 'wanted', leaves: 4 },
  {
    key: 'run_state',
    title: 'state',
    text: (value, row) => String(value ?? (row['node'] === null ? 'waiting' : 'not yet reported')),
  },
  { key: 'pid', align: 'right', leaves: 2 },
  { key: 'restarts', align: 'right' },
  { key: 'move_to', title: 'goes to', leaves: 3 },
  { key: 'assigned_at', title: 'age', align: 'right', leaves: 6, text: since },
  { key: 'last_error', title: 'last error' },
  { key: 'last_error_at', title: 'error age', align: 'right', leaves: 7, text: since },
]

export const FAILING_COLUMNS: readonly Column[] = [
  { key: 'assignment_id', title: 'failing', align: 'right' },
  { key: 'name', title: 'deployment', text: (_, row) => deploymentText(row) },
  { key: 'node' },
  { key: 'run_state', title: 'state' },
  { key: 'restarts', align: 'right', leaves: 1 },
  { key: 'last_error_at', title: 'age', align: 'right', text: since },
  { key: 'reason', prose: true },
]

export const UNPLACED_COLUMNS: readonly Column[] = [
  { key: 'assignment_id', title: 'waiting', align: 'right' },
  { key: 'name', title: 'deployment', text: (_, row) => deploymentText(row) },
  { key: 'package_name', title: 'package', leaves: 1 },
  { key: 'waiting_since', title: 'age', align: 'right', text: since },
  { key: 'reason', prose: true },
]

const HEALTH_COLOURS: Record<string, (text: string) => string> = {
  HEALTHY: colors.green,
  DRAINING: colors.yellow,
  DISABLED: colors.yellow,
  LOW_DISK: colors.yellow,
  UNHEALTHY: colors.red,
  STALE: colors.red,
  HELD: colors.yellow,
  LEFT: colors.dim,
  UNKNOWN: colors.dim,
}

/** For rows that withStates() has completed. */
export const NODE_COLUMNS: readonly Column[] = [
  { key: 'node' },
  { key: 'health', paint: health },
  { key: 'beat_age', title: 'last beat', align: 'right', text: (value) => interval(value) },
  { key: 'assignments', title: 'assigned', align: 'right' },
  { key: 'running', align: 'right' },
  { key: 'states', title: 'not running', text: (value) => othersText(value) },
  { key: 'cpu_pct', title: 'cpu %', align: 'right', leaves: 2 },
  {
    key: 'memory_mb',
    title: 'memory MiB',
    align: 'right',
    leaves: 1,
    text: (value) =>
      value === null || value === undefined ? '-' : String(Math.round(Number(value))),
  },
  { key: 'disk_free_pct', title: 'disk free %', align: 'right', leaves: 3 },
]

export const NODE_COLUMNS_WIDE: readonly Column[] = [
  ...NODE_COLUMNS,
  { key: 'weight', align: 'right' },
  { key: 'max_assignments', title: 'at most', align: 'right' },
  { key: 'trusts' },
  { key: 'containment' },
  { key: 'version' },
  { key: 'labels' },
]

/** Adds to each node how many of its assignments are in which state. */
export function withStates(
  nodes: readonly NodeRow[],
  states: readonly StateCount[],
): (NodeRow & { states: Record<string, number> })[] {
  return nodes.map((node) => ({ ...node, states: statesOf(node.node, states) }))
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

/** The name, as commands take it: an unnamed deployment by its id. */
function deploymentText(row: Row): string {
  return row['name'] === null ? `id:${cell(row['deployment_id'])}` : cell(row['name'])
}

export function packageText(row: Row): string {
  return row['package_name'] === null
    ? '(a command)'
    : `${cell(row['package_name'])}@${cell(row['package_version'])}`
}

/** How many instances shall run. A daemon runs one on every node that may run it. */
function wantedOf(row: DeploymentRow): number {
  if (!row.enabled) return 0
  return row.type === 'daemon' ? row.assignments - row.stopping : row.replicas
}

function stateOf(row: DeploymentRow): string {
  const counts = [
    ['failing', row.failing],
    ['unknown', row.silent],
    ['waiting', row.waiting],
    ['stopping', row.stopping],
  ] as const
  const parts = [
    ...(row.enabled ? [] : ['disabled']),
    ...counts.flatMap(([what, count]) => (count > 0 ? [`${count} ${what}`] : [])),
  ]
  return (
    parts.join(', ') ||
    (wantedOf(row) === 0 ? 'nothing to run' : row.running >= wantedOf(row) ? 'running' : 'starting')
  )
}

function health(text: string): string {
  return (HEALTH_COLOURS[text] ?? String)(text)
}

function othersText(value: unknown): string {
  const states = Object.entries((value ?? {}) as Record<string, number>).filter(
    ([state]) => state !== 'running',
  )
  return states.length === 0 ? '-' : states.map(([state, count]) => `${count} ${state}`).join(', ')
}
