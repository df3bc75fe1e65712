/** Arguments and results of the agent's verbs. Fields have the names of the columns. */

/**
 * One row of assignments_of(): everything needed to run an assignment.
 * When the deployment is deleted, the spec is null and wanted is 'stop'.
 */
export interface OwnedAssignment {
  assignment_id: string
  epoch: string
  deployment_id: string
  ordinal: number | null
  type: 'deployment' | 'daemon'
  generation: string
  wanted: 'run' | 'stop'
  /** Without the database: stop before the lease ends, or keep running. */
  on_lost: 'stop' | 'keep'
  lease_ttl_ms: number
  stop_grace_ms: number
  package_name: string | null
  package_version: string | null
  command: string | null
  args: string[]
  env: Record<string, string>
}

/**
 * No agent of today sends 'starting': a start takes a millisecond, so 'running' follows at once.
 * report() accepts it, for agents that know a longer start.
 */
export type ObservedState =
  'installing' | 'starting' | 'running' | 'stopping' | 'backoff' | 'failed' | 'stopped' | 'refused'

/** What the agent observed. 'stopped' and 'refused' free the assignment; the others only record. */
export interface AssignmentReport {
  assignment_id: string
  epoch: string
  generation: string
  state: ObservedState
  pid: number | null
  restarts: number
  exit_code: number | null
  exit_signal: string | null
  error: string | null
  next_start_in_ms: number | null
}

/** accepted: false for an old epoch or foreign assignment; null for a locked row: repeat it. */
export interface ReportOutcome {
  assignment_id: string
  epoch: string
  accepted: boolean | null
}

export interface NodeDescription {
  node: string
  trusts: string | null
  drivers: readonly string[]
  labels: Readonly<Record<string, string>> | null
  max_assignments: number | null
  agent_base_url: string | null
  gateway_base_url: string | null
  version: string
  /** How surely the processes die with their supervisor. */
  containment: string
}

export interface Registration {
  node_id: number
  beat_interval_ms: number
  lease_ttl_ms: number
  reap_margin_ms: number
  channel: string
  schema_version: number
  /**
   * The database that decides what runs here: cluster, database and port. The port tells a copy of
   * a cluster from the original on one machine.
   */
  control_plane: string
}

/** Null could not be measured: the database keeps its last sample. Zero would be the best score. */
export interface UsageSample {
  cpu_pct: number | null
  memory_mb: number | null
  disk_free_pct: number | null
  disk_free_bytes: number | null
}

export interface BeatAnswer {
  /** Of everything the node owns, see digestOf(). */
  digest: string
  owned: number
  lease_ttl_ms: number
  next_beat_ms: number
  /** After an outage: start nothing new. */
  hold: boolean
  /** No worker has run the rounds lately: call tick. */
  round_overdue: boolean
}

/** A request for a slice of a log. One of from_byte, tail_lines and after sets its start. */
export interface LogRequest {
  request: string
  assignment_id: string
  from_byte: string | null
  tail_lines: number | null
  after: string | null
  max_bytes: number
  /** How long to wait for new output before the answer is that there is none. */
  wait_ms: number
}

/** Either data with its position, or an error. An error with size 0 means that there is no log. */
export interface LogAnswer {
  start_byte: number | null
  data: Buffer | null
  next: string | null
  more: boolean | null
  size: number | null
  error: string | null
}
