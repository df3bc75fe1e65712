/** How deployments and assignments are shown, wherever they are. Nodes: NODE_COLUMNS in up-frame.ts. */
import type { DeploymentRow } from '../queries/deployments.js'
import { cell, colors } from './table.js'
import type { Column, Row } from './table.js'

export const DEPLOYMENT_COLUMNS: readonly Column[] = [
  { key: 'id', align: 'right' },
  { key: 'name' },
  { key: 'package_name', title: 'package', text: (_, row) => packageText(row) },
  { key: 'type' },
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
  { key: 'deployment_id', title: 'deployment', align: 'right' },
  { key: 'name' },
  { key: 'ordinal', title: '#', align: 'right' },
  { key: 'node' },
  { key: 'epoch', align: 'right' },
  { key: 'wanted' },
  {
    key: 'run_state',
    title: 'state',
    text: (value, row) => String(value ?? (row['node'] === null ? 'waiting' : 'not yet seen')),
  },
  { key: 'pid', align: 'right' },
  { key: 'restarts', align: 'right' },
  { key: 'move_to', title: 'goes to' },
  { key: 'last_error', title: 'last error' },
]

export function packageText(row: Row): string {
  return row['package_name'] === null
    ? '(a command)'
    : `${cell(row['package_name'])}@${cell(row['package_version'])}`
}

/** How many are to run; a daemon as many as there are nodes that may run it. */
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
