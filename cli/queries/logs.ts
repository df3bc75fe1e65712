/** SQL of `mooring logs`. Part of queries.ts. */
import type { Sql } from 'postgres'
import type { LogStart } from '../../state-folder/log-reader.js'
import type { LogAnswerRow } from './rows.js'

export interface LogQueries {
  requestLog(assignmentId: string, node: string, start: LogStart, waitMs: number): Promise<string>
  /** Null: not answered yet. */
  readLog(request: string): Promise<LogAnswerRow | null>
  /** The session of the agent that holds the name; null where no agent does. */
  sessionOf(node: string): Promise<string | null>
}

export function createLogQueries(sql: Sql): LogQueries {
  return {
    async requestLog(assignmentId, node, start, waitMs) {
      const {
        fromByte = null,
        tailLines = null,
        after = null,
      } = start as { fromByte?: number; tailLines?: number; after?: string }
      const [row] = await sql<{ request: string }[]>`
        select mooring.request_log(
            ${assignmentId}::bigint,
            from_byte => ${fromByte}::bigint,
            tail_lines => ${tailLines}::int,
            after => ${after},
            node => ${node},
            wait => ${`${waitMs} ms`}::interval) as request`
      return row!.request
    },
    async readLog(request) {
      const rows = await sql<LogAnswerRow[]>`select r.* from mooring.read_log(${request}::uuid) r`
      return rows[0] ?? null
    },
    async sessionOf(node) {
      const rows = await sql<{ session: string | null }[]>`
        select n.session from mooring.node_status n where n.node = ${node}`
      return rows[0]?.session ?? null
    },
  }
}
