/** SQL of the commands that read events. Part of queries.ts. */
import type { Sql } from 'postgres'
import { textList } from './lists.js'
import type { EventHorizon, EventRow } from './rows.js'

/** An absent field does not restrict. */
export interface EventFilter {
  kinds?: readonly string[] | undefined
  node?: string | undefined
  deployment?: string | undefined
  assignment?: string | undefined
  /** An interval, back from now. */
  since?: string | undefined
}

export interface EventQueries {
  /** The last `limit` events, oldest first. lookBack bounds how many of the newest are examined. */
  events(filter: EventFilter, limit: number | null, lookBack?: number): Promise<EventRow[]>
  eventsAfter(id: bigint, filter: EventFilter, limit: number): Promise<EventRow[]>
  eventHorizon(): Promise<EventHorizon>
  /** The id of the deployment of that name that was deleted last. */
  deletedDeployment(name: string): Promise<string | null>
}

export function createEventQueries(sql: Sql): EventQueries {
  // an INSERT of very many deployments has one event, with the range of their ids
  const concerns = (deployment: string) => sql`(
    e.deployment_id = ${deployment}::bigint
    or e.kind = 'deployment_added'
      and e.deployment_id is null
      and ${deployment}::bigint
        between (e.detail ->> 'first_id')::bigint and (e.detail ->> 'last_id')::bigint)`
  const matches = ({ kinds, node, deployment, assignment, since }: EventFilter) => sql`
    ${kinds ? sql`e.kind in (${textList(sql, kinds)})` : sql`true`}
    and ${node === undefined ? sql`true` : sql`e.node = ${node}`}
    and ${deployment === undefined ? sql`true` : concerns(deployment)}
    and ${assignment === undefined ? sql`true` : sql`e.assignment_id = ${assignment}::bigint`}
    and ${since === undefined ? sql`true` : sql`e.at >= now() - ${since}::interval`}`
  const isRecent = (lookBack: number | undefined) =>
    lookBack === undefined
      ? sql`true`
      : sql`e.id > (select max(m.id) - ${lookBack}::bigint from mooring.event m)`
  return {
    events: (filter, limit, lookBack) => sql<EventRow[]>`
      select l.*
        from (
          select e.*
            from mooring.event e
           where ${matches(filter)}
             and ${isRecent(lookBack)}
           order by e.id desc
           limit ${limit}::int) l
       order by l.id`,
    eventsAfter: (id, filter, limit) => sql<EventRow[]>`
      select e.*
        from mooring.event e
       where e.id > ${id.toString()}::bigint
         and ${matches(filter)}
       order by e.id
       limit ${limit}::int`,
    async eventHorizon() {
      const [row] = await sql<EventHorizon[]>`
        select coalesce((select max(e.id) from mooring.event e), 0)::text as top,
            pg_snapshot_xmin(s.now)::text as all_ended_below,
            pg_snapshot_xmax(s.now)::text as open_until
          from (select pg_current_snapshot() as now) s`
      return row!
    },
    async deletedDeployment(name) {
      const [row] = await sql<{ deployment_id: string }[]>`
        select e.deployment_id
          from mooring.event e
         where e.kind = 'deployment_deleted' and e.detail ->> 'name' = ${name}
         order by e.id desc
         limit 1`
      return row?.deployment_id ?? null
    },
  }
}
