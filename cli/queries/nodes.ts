/** SQL of the commands about nodes and their drains. Joined to the rest in db.ts. */
import type { Sql } from 'postgres'
import { labelled } from './deployments.js'
import type { Requirement } from './deployments.js'

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

export interface NodeDb {
  nodes(labels?: readonly Requirement[]): Promise<NodeRow[]>
  drains(): Promise<DrainRow[]>
  drainProgress(node: string): Promise<DrainRow | null>
  drainNode(
    node: string,
    options: {
      target?: string | undefined
      maxMoves?: number | undefined
      deadline?: string | undefined
    },
  ): Promise<DrainRow>
  undrainNode(node: string): Promise<void>
  setNodeEnabled(node: string, enabled: boolean): Promise<void>
  forgetNode(node: string): Promise<void>
  upsertNode(node: string, edit: NodeEdit): Promise<Record<string, unknown>>
  placementsOf(node: string, limit: number, skip: number): Promise<Record<string, unknown>[]>
}

export function createNodeDb(sql: Sql): NodeDb {
  const drainProgress = async (node: string): Promise<DrainRow | null> =>
    (await sql<DrainRow[]>`select p.* from mooring.drain_progress p where p.node = ${node}`)[0] ??
    null
  const said = async (verb: PromiseLike<unknown>): Promise<void> => void (await verb)
  return {
    nodes: (labels) =>
      sql<
        NodeRow[]
      >`select n.* from mooring.node_status n where ${labelled(sql, sql`n.labels`, labels)} order by n.node`,
    drains: () =>
      sql<DrainRow[]>`select p.* from mooring.drain_progress p order by p.since, p.node`,
    drainProgress,
    async drainNode(
      node,
      {
        target = null,
        maxMoves = null,
        deadline = null,
      }: {
        target?: string | null | undefined
        maxMoves?: number | null | undefined
        deadline?: string | null | undefined
      },
    ) {
      await sql`select d.node from mooring.drain_node(${node}, ${target}, ${maxMoves}::int, ${deadline}::interval) d`
      return (await drainProgress(node))!
    },
    undrainNode: (node) => said(sql`select n.name from mooring.undrain_node(${node}) n`),
    setNodeEnabled: (node, enabled) =>
      said(sql`select n.name from mooring.set_node_enabled(${node}, ${enabled}) n`),
    forgetNode: (node) => said(sql`select from mooring.forget_node(${node})`),
    async upsertNode(
      node,
      {
        weight = null,
        labels = null,
        maxAssignments = null,
        agentBaseUrl = null,
        gatewayBaseUrl = null,
      }: { [key in keyof NodeEdit]: NodeEdit[key] | null },
    ) {
      await sql`select n.name from mooring.upsert_node(${node}, ${weight}::float8, ${labels === null ? null : sql.json(labels)}::jsonb, ${maxAssignments}::int, ${agentBaseUrl}, ${gatewayBaseUrl}) n`
      return (await sql`select n.* from mooring.node_status n where n.node = ${node}`)[0]!
    },
    placementsOf: (node, limit, skip) =>
      sql`select p.* from mooring.placements_of(${node}, ${limit}::int, ${skip}::int) p`,
  }
}
