/**
 * All SQL of the command line, with the files beside it: calls of verbs, selects from views, and
 * the statements on mooring.deployment that a user would type. Row types are in rows.ts.
 */
import type { Sql } from 'postgres'
import { createApplyQueries, type ApplyQueries } from './apply.js'
import { createDeploymentQueries, type DeploymentQueries } from './deployments.js'
import { createEventQueries, type EventQueries } from './events.js'
import { createLogQueries, type LogQueries } from './logs.js'
import { createNodeQueries, type NodeQueries } from './nodes.js'
import { createSimulationQueries, type SimulationQueries } from './simulations.js'
import type {
  EventRow,
  FailingRow,
  FleetRow,
  MovedRow,
  OwnedRow,
  PlacementRow,
  RunningRow,
  SchemaRow,
  StateCount,
  UnplacedRow,
} from './rows.js'

export interface Queries
  extends
    ApplyQueries,
    DeploymentQueries,
    EventQueries,
    LogQueries,
    NodeQueries,
    SimulationQueries {
  fleet(): Promise<FleetRow>
  /** Those that have waited longest come first. */
  unplaced(limit: number): Promise<UnplacedRow[]>
  /** The latest failures come first. */
  failing(limit: number): Promise<FailingRow[]>
  states(): Promise<StateCount[]>
  lastEvents(count: number): Promise<EventRow[]>
  explain(deploymentId: string): Promise<Record<string, unknown>[]>
  placementsOfDeployment(idOrName: string): Promise<PlacementRow[]>
  placementOfAssignment(id: string): Promise<PlacementRow | null>
  deploymentNames(): Promise<string[]>
  /** Processes that were observed running. */
  running(): Promise<RunningRow[]>
  reassign(assignmentId: string, node: string): Promise<MovedRow>
  history(assignmentId: string): Promise<OwnedRow[]>
  /** Permits reaping of the silent nodes, however many. False when reaping was not paused. */
  resumeReaping(): Promise<boolean>
}

export async function readSchema(sql: Sql): Promise<SchemaRow> {
  const [row] = await sql<{ database: string; installed: boolean }[]>`
    select current_database()::text as database,
        to_regprocedure('mooring.schema_version()') is not null as installed`
  if (!row!.installed) return { database: row!.database, version: null }
  const [schema] = await sql<{ version: number }[]>`select mooring.schema_version() as version`
  return { database: row!.database, version: schema!.version }
}

export function createQueries(sql: Sql): Queries {
  return {
    ...createApplyQueries(sql),
    ...createDeploymentQueries(sql),
    ...createEventQueries(sql),
    ...createLogQueries(sql),
    ...createNodeQueries(sql),
    ...createSimulationQueries(sql),
    async fleet() {
      const rows = await sql<FleetRow[]>`select f.* from mooring.fleet f`
      return rows[0]!
    },
    unplaced: (limit) => sql<UnplacedRow[]>`
      select u.*
        from mooring.unplaced u
       order by u.waiting_since, u.assignment_id
       limit ${limit}`,
    failing: (limit) => sql<FailingRow[]>`
      select f.*
        from mooring.failing f
       order by f.last_error_at desc nulls last, f.assignment_id
       limit ${limit}`,
    states: () => sql<StateCount[]>`
      select p.node,
          coalesce(
            p.run_state,
            case when p.node is null then 'waiting' else 'not yet reported' end) as run_state,
          count(*)::int as assignments
        from mooring.placement p
       group by 1, 2
       order by 1 nulls last, 2`,
    lastEvents: (count) => sql<EventRow[]>`select e.* from mooring.last_events(${count}) e`,
    explain: (id) => sql`select x.* from mooring.explain(${id}::bigint) x`,
    placementsOfDeployment: (idOrName) => sql<PlacementRow[]>`
      select p.*
        from mooring.placement p
       where p.deployment_id = any (array(
         select d.id
           from mooring.deployment d
          where d.name = ${idOrName}
          union
         select ${numberOrNull(idOrName)}::bigint))
       order by p.ordinal, p.assignment_id`,
    async placementOfAssignment(id) {
      if (numberOrNull(id) === null) return null
      const rows = await sql<PlacementRow[]>`
        select p.* from mooring.placement p where p.assignment_id = ${id}::bigint`
      return rows[0] ?? null
    },
    async deploymentNames() {
      const rows = await sql<{ name: string }[]>`
        select d.name
          from mooring.deployment d
         where d.name is not null
         order by d.name
         limit 1000`
      return rows.map((row) => row.name)
    },
    running: () => sql<RunningRow[]>`
      select p.assignment_id, p.deployment_id, p.name, p.type, p.ordinal, p.package_name,
          p.package_version, p.node, p.epoch, p.pid
        from mooring.placement p
       where p.run_state = 'running'
       order by p.assignment_id`,
    async reassign(assignmentId, node) {
      const [moved] = await sql<MovedRow[]>`
        select a.id, a.wanted, n.name as node, t.name as move_to, a.epoch, a.handover
          from mooring.reassign(${assignmentId}::bigint, ${node}) a
          left join mooring.node n on n.id = a.node_id
          left join mooring.node t on t.id = a.move_to`
      return moved!
    },
    history: (assignmentId) =>
      sql<OwnedRow[]>`select h.* from mooring.history(${assignmentId}::bigint) h`,
    async resumeReaping() {
      const rows = await sql<{ resumed: boolean }[]>`select mooring.resume_reaping() as resumed`
      return rows[0]!.resumed
    },
  }
}

function numberOrNull(text: string): string | null {
  return /^\d{1,18}$/.test(text) ? text : null
}
