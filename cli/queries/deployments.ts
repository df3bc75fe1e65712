/** SQL of the commands about deployments and their assignments. Part of queries.ts. */
import type { Sql } from 'postgres'
import { labelled } from './labels.js'
import type { Requirement } from './labels.js'
import { idArray, textList } from './lists.js'
import type {
  DeploymentRow,
  EditedRow,
  InstanceRow,
  PlacementRow,
  PrivateRow,
  UnplacedRow,
} from './rows.js'

/** An absent field does not restrict. */
export interface Filter {
  /** By name or id. */
  named?: readonly string[] | undefined
  ids?: readonly string[] | undefined
  labels?: readonly Requirement[] | undefined
  limit?: number | undefined
  skip?: number | undefined
}

export interface AssignmentFilter extends Omit<Filter, 'named'> {
  deployments?: readonly string[] | undefined
  node?: string | undefined
}

export interface DeploymentQueries {
  /** In order of id. */
  deployments(filter: Filter): Promise<DeploymentRow[]>
  /** Null where the role may not read it. */
  privateOf(deploymentId: string): Promise<PrivateRow | null>
  unplacedOf(deploymentId: string): Promise<UnplacedRow[]>
  assignments(filter: AssignmentFilter): Promise<PlacementRow[]>
  instances(deploymentIds: readonly string[], steadyFor: string): Promise<InstanceRow[]>
  /** Orders the restart of one assignment. Resolves with the epoch the assignment has then. */
  restart(assignmentId: string, reason: string | undefined): Promise<string>
  /** The next four resolve with the rows they changed. */
  enableDeployments(ids: readonly string[], enabled: boolean): Promise<EditedRow[]>
  scaleDeployments(ids: readonly string[], replicas: number): Promise<EditedRow[]>
  renewDeployments(ids: readonly string[]): Promise<EditedRow[]>
  deleteDeployments(ids: readonly string[]): Promise<EditedRow[]>
}

export function createDeploymentQueries(sql: Sql): DeploymentQueries {
  const ids = (list: readonly string[]) => idArray(sql, list)
  // in the order of `mooring apply`: two commands that change the same rows then never deadlock
  const locked = (list: readonly string[]) => sql`
    select o.id
      from mooring.deployment o
     where o.id = any (${ids(list)})
     order by o.name collate "C", o.id
       for update`
  const edited = sql`d.id, d.generation, d.replicas, d.enabled`
  return {
    deployments: ({ named, ids: listed, labels, limit, skip = 0 }) => sql<DeploymentRow[]>`
      select d.id, d.name, d.type, d.package_name, d.package_version, d.enabled, d.replicas,
          coalesce(d.policy, s.default_policy) as policy, d.labels, d.selector, d.pinned_node,
          d.needs_urls, d.on_lost, d.handover, d.lease_ttl, d.stop_grace, d.generation,
          d.created_at,
          d.updated_at, p.assignments, p.running, p.waiting, p.stopping, p.failing, p.silent
        from mooring.deployment d
       cross join mooring.setting s
       cross join lateral (${countsOf(sql)}) p
       where ${
         named
           ? sql`(d.name in (${textList(sql, named)}) or d.id = any (${ids(named)}))`
           : sql`true`
       }
         and ${listed ? sql`d.id = any (${ids(listed)})` : sql`true`}
         and ${labelled(sql, sql`d.labels`, labels)}
       order by d.id
       limit ${limit ?? null}::int offset ${skip}::int`,
    async privateOf(deploymentId) {
      const [may] = await sql<{ read: boolean }[]>`
        select has_column_privilege('mooring.deployment', 'env', 'select') as read`
      if (!may!.read) return null
      const [row] = await sql<PrivateRow[]>`
        select d.command, d.args,
            coalesce(
              (select jsonb_agg(k.name order by k.name) from jsonb_object_keys(d.env) k (name)),
              '[]') as env_names
          from mooring.deployment d
         where d.id = ${deploymentId}::bigint`
      return row ?? null
    },
    unplacedOf: (deploymentId) => sql<UnplacedRow[]>`
      select u.*
        from mooring.unplaced u
       where u.deployment_id = ${deploymentId}::bigint
       order by u.assignment_id`,
    assignments: ({ ids: listed, deployments, node, labels, limit, skip = 0 }) => sql<
      PlacementRow[]
    >`
      select p.*
        from mooring.placement p
       where ${listed ? sql`p.assignment_id = any (${ids(listed)})` : sql`true`}
         and ${deployments ? sql`p.deployment_id = any (${ids(deployments)})` : sql`true`}
         and ${node === undefined ? sql`true` : sql`p.node = ${node}`}
         and ${
           labels
             ? sql`p.deployment_id in (
                 select d.id
                   from mooring.deployment d
                  where ${labelled(sql, sql`d.labels`, labels)})`
             : sql`true`
         }
       order by p.assignment_id
       limit ${limit ?? null}::int offset ${skip}::int`,
    instances: (deploymentIds, steadyFor) => sql<InstanceRow[]>`
      select p.assignment_id, p.deployment_id, p.name, p.type, p.node, p.epoch, p.wanted,
          p.move_reason, p.stop_reason, p.run_state, p.restarts, p.last_error,
          coalesce(
            p.run_state = 'running' and p.wanted = 'run' and p.restarts = 0
              and p.last_deployed_at + ${steadyFor}::interval <= clock_timestamp(),
            false) as steady,
          coalesce(n.health in ('STALE', 'UNKNOWN'), false) as silent
        from mooring.placement p
        left join mooring.node_status n on n.node = p.node
       where p.deployment_id = any (${ids(deploymentIds)})
         and p.handover is null
       order by p.deployment_id, p.ordinal, p.node, p.assignment_id`,
    async restart(assignmentId, reason) {
      const [row] = await sql<{ epoch: string }[]>`
        select r.epoch from mooring.restart(${assignmentId}::bigint, ${reason ?? null}) r`
      return row!.epoch
    },
    enableDeployments: (list, enabled) => sql<EditedRow[]>`
      update mooring.deployment d
         set enabled = ${enabled}
        from (${locked(list)}) l
       where d.id = l.id
         and d.enabled <> ${enabled}
      returning ${edited}`,
    scaleDeployments: (list, replicas) => sql<EditedRow[]>`
      update mooring.deployment d
         set replicas = ${replicas}
        from (${locked(list)}) l
       where d.id = l.id
         and d.replicas <> ${replicas}
      returning ${edited}`,
    renewDeployments: (list) => sql<EditedRow[]>`
      update mooring.deployment d
         set generation = d.generation + 1
        from (${locked(list)}) l
       where d.id = l.id
      returning ${edited}`,
    deleteDeployments: (list) => sql<EditedRow[]>`
      delete from mooring.deployment d
       using (${locked(list)}) l
       where d.id = l.id
      returning ${edited}`,
  }
}

/** The instances of the deployment d by state, successors of a handover left out. */
const countsOf = (sql: Sql) => sql`
  select count(*)::int as assignments,
      (count(*) filter (where p.run_state = 'running' and p.wanted = 'run'))::int as running,
      (count(*) filter (where p.node is null and p.wanted = 'run'))::int as waiting,
      (count(*) filter (where p.node is not null and p.wanted = 'stop'))::int as stopping,
      (count(*) filter (
        where p.wanted = 'run'
          and p.run_state in ('backoff', 'failed', 'refused')))::int as failing,
      (count(*) filter (where p.run_state = 'unknown'))::int as silent
    from mooring.placement p
   where p.deployment_id = d.id
     and p.handover is null`
