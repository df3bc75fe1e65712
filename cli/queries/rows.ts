/** What the commands read, as psql shows it. bigint columns arrive as strings. */

/** Whose schema it is; version null: it is not installed. */
export interface SchemaRow {
  database: string
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
  version: number
  /** Why nothing is claimed, reaped or started; null: no hold. */
  hold: string | null
  /** Why nothing is taken from silent nodes; null: it is, or there are none. */
  reap_paused: string | null
  placement_lock_holder: number | null
  workers: number
  [column: string]: unknown
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

export interface UnplacedRow {
  assignment_id: string
  deployment_id: string
  package_name: string | null
  waiting_since: Date | null
  reason: string
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

export interface StateCount {
  node: string | null
  run_state: string
  assignments: number
}
