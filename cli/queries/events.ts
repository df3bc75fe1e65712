/** SQL of what reads events. Joined to the rest in db.ts. */
import type { Sql } from 'postgres'
import type { EventRow } from './rows.js'

/** What is left out does not restrict. since: an interval, back from now. */
export interface EventFilter {
  kinds?: readonly string[] | undefined
  node?: string | undefined
  deployment?: string | undefined
  assignment?: string | undefined
  since?: string | undefined
}

/**
 * Where the table ends, and who still writes into it. An event with an id up to top is visible at once, or was written by a transaction
 * below open_until that had not ended: when all_ended_below has come so far, there is none of them left.
 */
export interface EventHorizon {
  top: string
  all_ended_below: string
  open_until: string
}

export interface EventDb {
  /** The last n, oldest first; lookBack: among so many of the last. */
  events(filter: EventFilter, limit: number | null, lookBack?: number): Promise<EventRow[]>
  eventsAfter(id: bigint, filter: EventFilter, limit: number): Promise<EventRow[]>
  eventHorizon(): Promise<EventHorizon>
}

export function createEventDb(sql: Sql): EventDb {
  const fits = ({ kinds, node, deployment, assignment, since }: EventFilter) => sql`
    ${kinds ? sql`e.kind in (select u.kind from jsonb_array_elements_text(${sql.json([...kinds])}::jsonb) u (kind))` : sql`true`}
    and ${node === undefined ? sql`true` : sql`e.node = ${node}`} and ${deployment === undefined ? sql`true` : sql`e.deployment_id = ${deployment}::bigint`}
    and ${assignment === undefined ? sql`true` : sql`e.assignment_id = ${assignment}::bigint`} and ${since === undefined ? sql`true` : sql`e.at >= now() - ${since}::interval`}`
  return {
    events: (filter, limit, lookBack) => sql<EventRow[]>`
      select l.* from (
        select e.* from mooring.event e
         where ${fits(filter)} and ${lookBack === undefined ? sql`true` : sql`e.id > (select max(m.id) - ${lookBack}::bigint from mooring.event m)`}
         order by e.id desc limit ${limit}::int) l order by l.id`,
    eventsAfter: (id, filter, limit) =>
      sql<
        EventRow[]
      >`select e.* from mooring.event e where e.id > ${id.toString()}::bigint and ${fits(filter)} order by e.id limit ${limit}::int`,
    async eventHorizon() {
      const [row] = await sql<EventHorizon[]>`
        select coalesce((select max(e.id) from mooring.event e), 0)::text as top, pg_snapshot_xmin(s.now)::text as all_ended_below, pg_snapshot_xmax(s.now)::text as open_until
          from (select pg_current_snapshot() as now) s`
      return row!
    },
  }
}
