/**
 * All SQL of the command line: calls of verbs, selects from views, and one statement that says a deployment.
 * Row fields keep the names psql shows; bigint columns arrive as strings.
 */
import type { Sql } from 'postgres'
import { createDeploymentDb, labelled } from './db-deployments.js'
import type { DeploymentDb, Requirement } from './db-deployments.js'
import { createEventDb } from './db-events.js'
import type { EventDb } from './db-events.js'
import { createLogDb, type LogDb } from './db-logs.js'
import type { DeploymentSpec } from './deployment-file.js'

/** Whose schema it is; version null: it is not installed. */
export interface SchemaRow { database: string; version: number | null }

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
  session: string | null
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

/** What is left out stays as it is. */
export interface NodeEdit {
  weight?: number
  labels?: Record<string, string>
  maxAssignments?: number
  agentBaseUrl?: string
  gatewayBaseUrl?: string
}

export interface OwnedRow { epoch: string; node: string; since: Date; until: Date | null; why: string | null; actor: string; ended_why: string | null; ended_by: string | null; [column: string]: unknown }

/** to_node null: nowhere, and reason says why. */
export interface ForetoldRow { assignment_id: string; deployment_id: string; from_node: string; to_node: string | null; reason: string | null; [column: string]: unknown }

export interface ForetoldReplicaRow { ordinal: number | null; to_node: string | null; reason: string | null; [column: string]: unknown }

export interface RebalanceRow { assignment_id: string; deployment_id: string; from_node: string; to_node: string; gain: number; [column: string]: unknown }

export interface MovedRow { id: string; wanted: string; node: string | null; move_to: string | null; epoch: string; handover: string | null }

export interface StateCount { node: string | null; run_state: string; assignments: number }

export interface AppliedRow { id: string; name: string; outcome: 'created' | 'changed' | 'unchanged' }

export interface CliDb extends DeploymentDb, EventDb, LogDb {
  fleet(): Promise<FleetRow>
  nodes(labels?: readonly Requirement[]): Promise<NodeRow[]>
  /** The longest waiting ones first. */
  unplaced(limit: number): Promise<UnplacedRow[]>
  states(): Promise<StateCount[]>
  lastEvents(count: number): Promise<EventRow[]>
  explain(deploymentId: string): Promise<Record<string, unknown>[]>
  placementsOfDeployment(idOrName: string): Promise<PlacementRow[]>
  placementOfAssignment(id: string): Promise<PlacementRow | null>
  deploymentNames(): Promise<string[]>
  /** What was observed running. */
  running(): Promise<RunningRow[]>
  drains(): Promise<DrainRow[]>
  drainProgress(node: string): Promise<DrainRow | null>
  drainNode(node: string, options: { target?: string | undefined; maxMoves?: number | undefined; deadline?: string | undefined }): Promise<DrainRow>
  undrainNode(node: string): Promise<void>
  reassign(assignmentId: string, node: string): Promise<MovedRow>
  history(assignmentId: string): Promise<OwnedRow[]>
  simulateNodeLoss(node: string): Promise<ForetoldRow[]>
  simulateDrain(node: string, maxMoves: number | undefined): Promise<ForetoldRow[]>
  simulateInsert(deployment: Record<string, unknown>): Promise<ForetoldReplicaRow[]>
  rebalance(maxMoves: number, options: { dryRun: boolean }): Promise<RebalanceRow[]>
  setNodeEnabled(node: string, enabled: boolean): Promise<void>
  forgetNode(node: string): Promise<void>
  upsertNode(node: string, edit: NodeEdit): Promise<Record<string, unknown>>
  placementsOf(node: string, limit: number, skip: number): Promise<Record<string, unknown>[]>
  /** Lets work be taken from the silent nodes, however many; false when that was not paused. */
  resumeReaping(): Promise<boolean>
  /** Says the deployments, all or none of them. With dryRun the database ends as it was. */
  apply(specs: readonly DeploymentSpec[], options: { dryRun: boolean }): Promise<AppliedRow[]>
  /** The 21 deployments of the demo; only in a database that never had a deployment. */
  insertDemo(): Promise<number>
}

export async function readSchema(sql: Sql): Promise<SchemaRow> {
  const [row] = await sql<{ database: string; installed: boolean }[]>`
    select current_database()::text as database, to_regprocedure('mooring.schema_version()') is not null as installed`
  if (!row!.installed) return { database: row!.database, version: null }
  const [schema] = await sql<{ version: number }[]>`select mooring.schema_version() as version`
  return { database: row!.database, version: schema!.version }
}

export function createCliDb(sql: Sql): CliDb {
  const drainProgress = async (node: string): Promise<DrainRow | null> =>
    (await sql<DrainRow[]>`select p.* from mooring.drain_progress p where p.node = ${node}`)[0] ?? null
  const said = async (verb: PromiseLike<unknown>): Promise<void> => void (await verb)
  return {
    ...createDeploymentDb(sql),
    ...createEventDb(sql),
    ...createLogDb(sql),
    async fleet() {
      const rows = await sql<FleetRow[]>`select f.* from mooring.fleet f`
      return rows[0]!
    },
    nodes: (labels) => sql<NodeRow[]>`select n.* from mooring.node_status n where ${labelled(sql, sql`n.labels`, labels)} order by n.node`,
    unplaced: (limit) => sql<UnplacedRow[]>`
      select u.* from mooring.unplaced u order by u.waiting_since, u.assignment_id limit ${limit}`,
    states: () => sql<StateCount[]>`
      select p.node, coalesce(p.run_state, case when p.node is null then 'waiting' else 'not yet seen' end) as run_state, count(*)::int as assignments
        from mooring.placement p group by 1, 2 order by 1 nulls last, 2`,
    lastEvents: (count) => sql<EventRow[]>`select e.* from mooring.last_events(${count}) e`,
    explain: (id) => sql`select x.* from mooring.explain(${id}::bigint) x`,
    placementsOfDeployment: (idOrName) => sql<PlacementRow[]>`
      select p.* from mooring.placement p
       where p.name = ${idOrName} or p.deployment_id = ${numberOrNull(idOrName)}::bigint order by p.ordinal, p.assignment_id`,
    async placementOfAssignment(id) {
      if (numberOrNull(id) === null) return null
      const rows = await sql<PlacementRow[]>`select p.* from mooring.placement p where p.assignment_id = ${id}::bigint`
      return rows[0] ?? null
    },
    async deploymentNames() {
      const rows = await sql<{ name: string }[]>`select d.name from mooring.deployment d where d.name is not null order by d.name limit 1000`
      return rows.map((row) => row.name)
    },
    running: () => sql<RunningRow[]>`
      select p.assignment_id, p.deployment_id, p.name, p.type, p.ordinal, p.package_name, p.package_version, p.node, p.epoch, p.pid
        from mooring.placement p where p.run_state = 'running' order by p.assignment_id`,
    drains: () => sql<DrainRow[]>`select p.* from mooring.drain_progress p order by p.since, p.node`,
    drainProgress,
    async drainNode(node, { target = null, maxMoves = null, deadline = null }: { target?: string | null | undefined; maxMoves?: number | null | undefined; deadline?: string | null | undefined }) {
      await sql`select d.node from mooring.drain_node(${node}, ${target}, ${maxMoves}::int, ${deadline}::interval) d`
      return (await drainProgress(node))!
    },
    undrainNode: (node) => said(sql`select n.name from mooring.undrain_node(${node}) n`),
    async reassign(assignmentId, node) {
      const [moved] = await sql<MovedRow[]>`
        select a.id, a.wanted, n.name as node, t.name as move_to, a.epoch, a.handover
          from mooring.reassign(${assignmentId}::bigint, ${node}) a left join mooring.node n on n.id = a.node_id left join mooring.node t on t.id = a.move_to`
      return moved!
    },
    history: (assignmentId) => sql<OwnedRow[]>`select h.* from mooring.history(${assignmentId}::bigint) h`,
    simulateNodeLoss: (node) => sql<ForetoldRow[]>`select s.* from mooring.simulate_node_loss(${node}) s`,
    simulateDrain: (node, maxMoves) => sql<ForetoldRow[]>`select s.* from mooring.simulate_drain(${node}, ${maxMoves ?? null}::int) s order by s.assignment_id`,
    simulateInsert: (deployment) => sql<ForetoldReplicaRow[]>`select s.* from mooring.simulate_insert(${sql.json(deployment as never)}::jsonb) s`,
    rebalance: (maxMoves, { dryRun }) => sql<RebalanceRow[]>`select r.* from mooring.rebalance(${maxMoves}::int, ${dryRun}) r`,
    setNodeEnabled: (node, enabled) => said(sql`select n.name from mooring.set_node_enabled(${node}, ${enabled}) n`),
    forgetNode: (node) => said(sql`select from mooring.forget_node(${node})`),
    async upsertNode(node, { weight = null, labels = null, maxAssignments = null, agentBaseUrl = null, gatewayBaseUrl = null }: { [key in keyof NodeEdit]: NodeEdit[key] | null }) {
      await sql`select n.name from mooring.upsert_node(${node}, ${weight}::float8, ${labels === null ? null : sql.json(labels)}::jsonb, ${maxAssignments}::int, ${agentBaseUrl}, ${gatewayBaseUrl}) n`
      return (await sql`select n.* from mooring.node_status n where n.node = ${node}`)[0]!
    },
    placementsOf: (node, limit, skip) => sql`select p.* from mooring.placements_of(${node}, ${limit}::int, ${skip}::int) p`,
    async resumeReaping() {
      const rows = await sql<{ resumed: boolean }[]>`select mooring.resume_reaping() as resumed`
      return rows[0]!.resumed
    },
    apply: (specs, options) => apply(sql, specs, options),
    async insertDemo() {
      // http-server looks for a free port by itself, but twenty-one of them at once find the same one: ' 0' (a string that is not
      // false, so it is used as it stands) lets the kernel choose. 127.0.0.1: a demo does not open ports to the network.
      const rows = await sql`
        insert into mooring.deployment (package_name, package_version, args, enabled)
        select 'http-server', '14.1.1', '["-a", "127.0.0.1", "-p", " 0"]', true from generate_series(1, 21)
         where (select pg_sequence_last_value(pg_get_serial_sequence('mooring.deployment', 'id'))) is null
        returning id`
      return rows.length
    },
  }
}

function numberOrNull(text: string): string | null {
  return /^\d{1,18}$/.test(text) ? text : null
}

/** What operators change by hand between two applies: kept when the file does not name it. Everything else goes to its default. */
const KEPT_UNLESS_NAMED = ['enabled', 'replicas'] as const
const DECLARED = [
  'labels', 'type', 'package_name', 'package_version', 'command', 'args', 'env', 'policy', 'selector',
  'pinned_node', 'needs_urls', 'on_lost', 'handover', 'lease_ttl', 'stop_grace',
] as const

class DryRun extends Error {}

async function apply(sql: Sql, specs: readonly DeploymentSpec[], options: { dryRun: boolean }): Promise<AppliedRow[]> {
  const applied: AppliedRow[] = []
  try {
    await sql.begin(async (tx) => {
      for (const spec of specs) {
        const row = Object.fromEntries(Object.entries(spec).map(([key, value]) => [key, isJson(key) ? tx.json(value as never) : value]))
        const compared = [...DECLARED, ...KEPT_UNLESS_NAMED.filter((column) => column in row)]
        // no alias for the table: the driver would read `as` before the row as a list of columns. `excluded` carries the column's default for what the file leaves out
        const [hit] = await tx<{ id: string; outcome: 'created' | 'changed' }[]>`
          insert into mooring.deployment ${tx(row as Record<string, never>)}
          on conflict (name) do update set ${compared.map((column, i) => tx`${i ? tx`, ` : tx``}${tx(column)} = excluded.${tx(column)}`)}
           where (${compared.map((column, i) => tx`${i ? tx`, ` : tx``}deployment.${tx(column)}`)})
                 is distinct from (${compared.map((column, i) => tx`${i ? tx`, ` : tx``}excluded.${tx(column)}`)})
          returning deployment.id, case when deployment.xmax = 0 then 'created' else 'changed' end as outcome`
          .catch((error: unknown) => { throw named(error, spec.name) })
        if (hit) applied.push({ id: hit.id, name: spec.name, outcome: hit.outcome })
        else {
          const [same] = await tx<{ id: string }[]>`select d.id from mooring.deployment d where d.name = ${spec.name}`
          applied.push({ id: same?.id ?? '', name: spec.name, outcome: 'unchanged' })
        }
      }
      if (options.dryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw error
  }
  return applied
}

const JSON_COLUMNS: readonly string[] = ['labels', 'args', 'env', 'selector']
function isJson(column: string): boolean {
  return JSON_COLUMNS.includes(column)
}

/** The server's detail shows the whole failing row, env and all: only the message may travel on. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof Error)) return error
  error.message = `deployment ${name}: ${error.message}`
  delete (error as { detail?: string }).detail
  return error
}
