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

/**
 * Events have no index but their ids: every claim would pay for it. So a filter without an age
 * looks through the newest only. Changes of deployments are few and have an index.
 */
export const EVENTS_LOOKED_AT = 100_000

export interface EventQueries {
  /** The last `limit` events, oldest first, of the newest EVENTS_LOOKED_AT or of the given age. */
  events(filter: EventFilter, limit: number | null): Promise<EventRow[]>
  /** The time of the oldest event that a filter without an age looks at; null where it is all. */
  eventsLookedBackTo(): Promise<Date | null>
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
  const isChange = sql`
    e.kind in ('deployment_added', 'deployment_changed', 'deployment_deleted')`
  /**
   * The id from which on to look. Ids grow with time but for late commits and clocks that were set
   * back, so the search by halves ends that much earlier.
   */
  async function firstId(since: string | undefined): Promise<string> {
    const [row] = await sql<{ first: string }[]>`
      with recursive span (low, high) as (
        select case when ${since === undefined} then e.last + 1 else e.first end, e.last + 1
          from (select coalesce(min(m.id), 0) as first, coalesce(max(m.id), 0) as last
                  from mooring.event m) e
        union all
        select case when m.at < now() - ${since ?? null}::interval then s.middle + 1 else s.low end,
            case when m.at < now() - ${since ?? null}::interval then s.high else s.middle end
          from (select n.low, n.high, (n.low + n.high) / 2 as middle from span n) s
         cross join lateral (
           select e.at
             from mooring.event e
            where e.id >= s.middle
            order by e.id
            limit 1) m
         where s.low < s.high
      )
      select (max(s.low) - ${EVENTS_LOOKED_AT}::bigint)::text as first from span s`
    return row!.first
  }
  return {
    async events(filter, limit) {
      const { deployment, since } = filter
      const isFiltered = Object.values(filter).some((part) => part !== undefined)
      const first = isFiltered ? await firstId(since) : '0'
      return await sql<EventRow[]>`
        select l.*
          from (
            select e.*
              from mooring.event e
             where e.id >= ${first}::bigint
               and ${matches(filter)}
            ${
              deployment === undefined
                ? sql``
                : sql`
            union
            select e.*
              from mooring.event e
             where ${isChange}
               and (e.deployment_id = ${deployment}::bigint or e.deployment_id is null)
               and ${matches(filter)}`
            }
             order by id desc
             limit ${limit}::int) l
         order by l.id`
    },
    async eventsLookedBackTo() {
      const first = await firstId(undefined)
      const [row] = await sql<{ at: Date }[]>`
        select e.at
          from mooring.event e
         where e.id >= ${first}::bigint
           and exists (select from mooring.event o where o.id < ${first}::bigint)
         order by e.id
         limit 1`
      return row?.at ?? null
    },
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
