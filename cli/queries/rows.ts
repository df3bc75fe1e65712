/** The rows that commands read, as psql shows them. bigint columns arrive as strings. */

import type { Difference } from '../targets/differences.js'

export interface SchemaRow {
  database: string
  /** Null: the schema is not installed. */
  version: number | null
}

export interface FleetRow {
  nodes: number
  healthy: number
  deployments: number
  assignments: number
  assigned: number
  running: number
  waiting: number
  failing: number
  version: number
  /** Why nothing is claimed, reaped or started; null: no hold. */
  hold: string | null
  /** Why nothing is reaped from silent nodes; null: reaping is not paused. */
  reap_paused: string | null
  placement_lock_holder: number | null
  workers: number
  [column: string]: unknown
}

/** How many assignments of a node are in one state; node null: those without an owner. */
export interface StateCount {
  node: string | null
  run_state: string
  assignments: number
}

export interface NodeRow {
  node: string
  health: string
  enabled: boolean
  draining: boolean
  beat_age: string | null
  assignments: number
  running: number
  cpu_pct: number | null
  memory_mb: number | null
  disk_free_pct: number | null
  weight: number
  labels: Record<string, unknown>
  drivers: string[]
  session: string | null
  [column: string]: unknown
}

export interface DrainRow {
  node: string
  total: number
  left: number
  moving: number
  blocked: number
  why: string | null
  since: Date
  eta: string | null
  done: boolean
  deadline_at: Date | null
  [column: string]: unknown
}

export interface DeploymentRow {
  id: string
  name: string | null
  type: 'deployment' | 'daemon'
  package_name: string | null
  package_version: string | null
  enabled: boolean
  replicas: number
  policy: string
  labels: Record<string, unknown>
  selector: Record<string, unknown>
  pinned_node: string | null
  generation: string
  created_at: Date
  updated_at: Date
  /** All rows. */
  assignments: number
  /** Observed running, and wanted so. */
  running: number
  /** Wanted, and without a node. */
  waiting: number
  /** On a node, and ordered to stop. */
  stopping: number
  /** In back-off, failed, or refused by the agent. */
  failing: number
  /** On a node that is silent. */
  silent: number
  [column: string]: unknown
}

/** The columns that a viewer may not read. Of the environment the names only. */
export interface PrivateRow {
  command: string | null
  args: string[]
  env_names: string[]
}

export interface EditedRow {
  id: string
  generation: string
  replicas: number
  enabled: boolean
}

export interface AppliedRow {
  id: string
  name: string
  outcome: 'created' | 'changed' | 'unchanged' | 'deleted'
  changes: Difference[]
  /** Instances that run, and are restarted or ordered to stop by this. */
  restarts: number
  stops: number
}

export interface PlacementRow {
  assignment_id: string
  deployment_id: string
  name: string | null
  ordinal: number | null
  package_name: string | null
  package_version: string | null
  node: string | null
  wanted: string
  run_state: string | null
  last_error: string | null
  [column: string]: unknown
}

export interface UnplacedRow {
  assignment_id: string
  deployment_id: string
  package_name: string | null
  waiting_since: Date | null
  reason: string
  [column: string]: unknown
}

export interface FailingRow {
  assignment_id: string
  deployment_id: string
  name: string | null
  ordinal: number | null
  package_name: string | null
  node: string
  run_state: string
  restarts: number
  reason: string
  last_error_at: Date | null
  next_start_at: Date | null
  [column: string]: unknown
}

/** An assignment as a rolling restart observes it. */
export interface InstanceRow {
  assignment_id: string
  deployment_id: string
  name: string | null
  type: 'deployment' | 'daemon'
  node: string | null
  epoch: string
  wanted: 'run' | 'stop'
  move_reason: string | null
  stop_reason: string | null
  run_state: string | null
  restarts: number
  last_error: string | null
  /** Observed running for the time asked for, without a crash. */
  steady: boolean
  /** Its node is not live. */
  silent: boolean
}

export interface RunningRow {
  assignment_id: string
  deployment_id: string
  name: string | null
  type: string
  ordinal: number | null
  package_name: string | null
  package_version: string | null
  node: string
  epoch: string
  pid: number | null
}

export interface OwnedRow {
  epoch: string
  node: string
  since: Date
  until: Date | null
  why: string | null
  actor: string
  ended_why: string | null
  ended_by: string | null
  [column: string]: unknown
}

export interface MovedRow {
  id: string
  wanted: string
  node: string | null
  move_to: string | null
  epoch: string
  handover: string | null
}

export interface RebalanceRow {
  assignment_id: string
  deployment_id: string
  from_node: string
  to_node: string
  gain: number
  [column: string]: unknown
}

/** to_node null: no node takes it, and reason says why. */
export interface SimulatedMoveRow {
  assignment_id: string
  deployment_id: string
  from_node: string
  to_node: string | null
  reason: string | null
  [column: string]: unknown
}

/** to_node null: no node takes it, and reason says why. */
export interface SimulatedReplicaRow {
  ordinal: number | null
  to_node: string | null
  reason: string | null
  [column: string]: unknown
}

export interface EventRow {
  id: string
  at: Date
  kind: string
  assignment_id: string | null
  deployment_id: string | null
  node: string | null
  epoch: string | null
  actor: string | null
  reason: string | null
  detail: unknown
}

/**
 * The end of the event table, and the transactions that may still write into it. An event with an
 * id up to `top` is visible, or its transaction is below `open_until` and had not ended. Once
 * `all_ended_below` has reached that value, every such transaction has ended.
 */
export interface EventHorizon {
  top: string
  all_ended_below: string
  open_until: string
}

/** The assignment whose log is read; node null: it runs nowhere at the moment. */
export interface LoggedRow {
  assignment_id: string
  deployment_id: string
  node: string | null
  run_state: string | null
}

/** data null: error says why. size '0': there is no log. */
export interface LogAnswerRow {
  assignment_id: string
  node: string
  start_byte: string | null
  data: Buffer | null
  next: string | null
  more: boolean | null
  size: string | null
  error: string | null
}

export type Level = 'ok' | 'warning' | 'problem'

export interface Finding {
  check_name: string
  level: Level
  found: string
  way_out: string | null
}

export interface ConnectionRow {
  user: string
  database: string
  standby: boolean
  tls: boolean | null
  /** Null: the installed schema has no mooring.doctor() yet. */
  can_ask: boolean | null
}
