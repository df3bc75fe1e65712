/** SQL of the commands about nodes and their drains. Part of queries.ts. */
import type { Sql } from 'postgres'
import { labelled } from './labels.js'
import type { Requirement } from './labels.js'
import type { DrainRow, NodeRow } from './rows.js'

/** An absent field stays as it is. */
export interface NodeEdit {
  weight?: number
  labels?: Record<string, string>
  maxAssignments?: number
  agentBaseUrl?: string
  gatewayBaseUrl?: string
}

export interface DrainOrder {
  target?: string | undefined
  maxMoves?: number | undefined
  deadline?: string | undefined
}

export interface NodeQueries {
  nodes(labels?: readonly Requirement[]): Promise<NodeRow[]>
  drains(): Promise<DrainRow[]>
  drainProgress(node: string): Promise<DrainRow | null>
  drainNode(node: string, order: DrainOrder): Promise<DrainRow>
  undrainNode(node: string): Promise<void>
  setNodeEnabled(node: string, enabled: boolean): Promise<void>
  forgetNode(node: string): Promise<void>
  upsertNode(node: string, edit: NodeEdit): Promise<Record<string, unknown>>
  placementsOf(node: string, limit: number, skip: number): Promise<Record<string, unknown>[]>
}

export function createNodeQueries(sql: Sql): NodeQueries {
  const drainProgress = async (node: string): Promise<DrainRow | null> => {
    const rows = await sql<DrainRow[]>`
      select p.* from mooring.drain_progress p where p.node = ${node}`
    return rows[0] ?? null
  }
  return {
    nodes: (labels) => sql<NodeRow[]>`
      select n.*
        from mooring.node_status n
       where ${labelled(sql, sql`n.labels`, labels)}
       order by n.node`,
    drains: () => sql<DrainRow[]>`
      select p.* from mooring.drain_progress p order by p.since, p.node`,
    drainProgress,
    async drainNode(node, { target, maxMoves, deadline }) {
      await sql`
        select d.node
          from mooring.drain_node(
                 ${node},
                 ${target ?? null},
                 ${maxMoves ?? null}::int,
                 ${deadline ?? null}::interval) d`
      return (await drainProgress(node))!
    },
    async undrainNode(node) {
      await sql`select n.name from mooring.undrain_node(${node}) n`
    },
    async setNodeEnabled(node, enabled) {
      await sql`select n.name from mooring.set_node_enabled(${node}, ${enabled}) n`
    },
    async forgetNode(node) {
      await sql`select from mooring.forget_node(${node})`
    },
    async upsertNode(node, { weight, labels, maxAssignments, agentBaseUrl, gatewayBaseUrl }) {
      await sql`
        select n.name
          from mooring.upsert_node(
                 ${node},
                 ${weight ?? null}::float8,
                 ${labels === undefined ? null : sql.json(labels)}::jsonb,
                 ${maxAssignments ?? null}::int,
                 ${agentBaseUrl ?? null},
                 ${gatewayBaseUrl ?? null}) n`
      const [row] = await sql`select n.* from mooring.node_status n where n.node = ${node}`
      return row!
    },
    placementsOf: (node, limit, skip) => sql`
      select p.* from mooring.placements_of(${node}, ${limit}::int, ${skip}::int) p`,
  }
}
