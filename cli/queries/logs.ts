/** The SQL of `mooring logs`; see db.ts. */
import type { Sql } from 'postgres'
import type { LogStart } from '../../state-folder/log-reader.js'

/** data null: error says why. With size '0' there is no log. */
export interface LogAnswerRow {
  assignment_id: string
  node: string
  start_byte: string | null
  data: Buffer | null
  next: string | null
  more: boolean | null
  size: string | null
  error: string | null
}

/** Whose log; node null: it runs nowhere at the moment. */
export interface LoggedRow {
  assignment_id: string
  deployment_id: string
  node: string | null
  run_state: string | null
}

export interface LogDb {
  requestLog(assignmentId: string, node: string, start: LogStart, waitMs: number): Promise<string>
  /** null: not answered yet. */
  readLog(request: string): Promise<LogAnswerRow | null>
  /** The life of the agent that holds the name; null: none. */
  sessionOf(node: string): Promise<string | null>
}

export function createLogDb(sql: Sql): LogDb {
  return {
    async requestLog(assignmentId, node, start, waitMs) {
      const {
        fromByte = null,
        tailLines = null,
        after = null,
      } = start as { fromByte?: number; tailLines?: number; after?: string }
      const [row] = await sql<{ request: string }[]>`
        select mooring.request_log(${assignmentId}::bigint, from_byte => ${fromByte}::bigint, tail_lines => ${tailLines}::int, after => ${after}, node => ${node}, wait => ${`${waitMs} ms`}::interval) as request`
      return row!.request
    },
    async readLog(request) {
      const rows = await sql<LogAnswerRow[]>`select r.* from mooring.read_log(${request}::uuid) r`
      return rows[0] ?? null
    },
    async sessionOf(node) {
      const rows = await sql<
        { session: string | null }[]
      >`select n.session from mooring.node_status n where n.node = ${node}`
      return rows[0]?.session ?? null
    },
  }
}
