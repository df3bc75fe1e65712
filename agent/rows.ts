/** What the agent's verbs take and return, as the rows stand in the database. */

/** One row of assignments_of: everything needed to run an assignment. The spec is null, and wanted 'stop', when the deployment is gone. */
export interface OwnedAssignment {
  assignment_id: string
  epoch: string
  deployment_id: string
  ordinal: number | null
  type: 'deployment' | 'daemon'
  generation: string
  wanted: 'run' | 'stop'
  /** What this node does with it when it cannot reach the database: stop before the lease ends, or keep running. */
  on_lost: 'stop' | 'keep'
  lease_ttl_ms: number
  stop_grace_ms: number
  package_name: string | null
  package_version: string | null
  command: string | null
  args: string[]
  env: Record<string, string>
}

export type ObservedState =
  'installing' | 'starting' | 'running' | 'stopping' | 'backoff' | 'failed' | 'stopped' | 'refused'

/** What the agent observed of an assignment. 'stopped' and 'refused' free it; the others only record. */
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

/** accepted is false for an old epoch or a foreign assignment, null for a row that was locked: report it again. */
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
  /** How surely what runs here dies with what supervises it. */
  containment: string
}

export interface Registration {
  node_id: number
  beat_interval_ms: number
  lease_ttl_ms: number
  reap_margin_ms: number
  channel: string
  schema_version: number
}

/** Null is "could not be measured": the database keeps the sample it has. Zero would be the best score of all. */
export interface UsageSample {
  cpu_pct: number | null
  memory_mb: number | null
  disk_free_pct: number | null
  disk_free_bytes: number | null
}

export interface BeatAnswer {
  /** Of everything the node owns, see digestOf. */
  digest: string
  owned: number
  lease_ttl_ms: number
  next_beat_ms: number
  /** After an outage: start nothing new. */
  hold: boolean
  /** No worker has run the rounds lately: call tick. */
  round_overdue: boolean
}

/** A slice of a log that somebody asks for; one of from_byte, tail_lines and after says where it begins. */
export interface LogRequest {
  request: string
  assignment_id: string
  from_byte: string | null
  tail_lines: number | null
  after: string | null
  max_bytes: number
  /** How long to wait for something new before it is said that there is nothing. */
  wait_ms: number
}

/** Either data and what belongs to it, or an error; with size 0 it says that there is no log. */
export interface LogAnswer {
  start_byte: number | null
  data: Buffer | null
  next: string | null
  more: boolean | null
  size: number | null
  error: string | null
}
