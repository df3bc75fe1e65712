/** SQL of the commands about nodes and their drains. Part of queries.ts. */
import type { Sql } from 'postgres'
import { labelled } from './labels.js'
import type { Requirement } from './labels.js'
import type { DrainRow, NodeRow } from './rows.js'

/** An absent field stays as it is. -1 and '' take away what is set. */
export interface NodeEdit {
  weight?: number
  /** These change, others stay. null takes a label away. */
  labels?: Record<string, string | null>
  maxAssignments?: number
  agentBaseUrl?: string
  gatewayBaseUrl?: string
}

export interface DrainOrder {
  target?: string | undefined
  maxMoves?: number | undefined
  deadline?: string | undefined
}

export interface EditedNode {
  /** Of node_status, as it is after the edit. */
  row: Record<string, unknown>
  isNew: boolean
  /** What it owned and the edit ordered to stop. */
  stopping: { assignment_id: string; deployment_id: string; name: string | null }[]
}

class DryRun extends Error {}

export interface NodeQueries {
  nodes(labels?: readonly Requirement[]): Promise<NodeRow[]>
  drains(): Promise<DrainRow[]>
  drainProgress(node: string): Promise<DrainRow | null>
  drainNode(node: string, order: DrainOrder): Promise<DrainRow>
  undrainNode(node: string): Promise<void>
  /** An interval of Postgres; '0' ends the hold. Resolves with the time it ends. */
  holdNode(node: string, duration: string): Promise<Date | null>
  setNodeEnabled(node: string, enabled: boolean): Promise<void>
  forgetNode(node: string): Promise<void>
  /** With dryRun the database ends as it was. */
  upsertNode(node: string, edit: NodeEdit, options: { dryRun: boolean }): Promise<EditedNode>
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
    async holdNode(node, duration) {
      const [row] = await sql<{ held_until: Date | null }[]>`
        select n.held_until
          from mooring.hold_node(${node}, ${duration}::interval) n`
      return row!.held_until
    },
    async setNodeEnabled(node, enabled) {
      await sql`select n.name from mooring.set_node_enabled(${node}, ${enabled}) n`
    },
    async forgetNode(node) {
      await sql`select from mooring.forget_node(${node})`
    },
    async upsertNode(node, edit, { dryRun }) {
      const edited: EditedNode = { row: {}, isNew: false, stopping: [] }
      try {
        await sql.begin(async (begun) => {
          const tx = begun as unknown as Sql
          const before = await tx<EditedNode['stopping']>`
            select p.assignment_id, p.deployment_id, p.name
              from mooring.placement p
             where p.node = ${node}
               and p.wanted = 'run'
             order by p.assignment_id`
          const [known] = await tx`select from mooring.node n where n.name = ${node}`
          edited.isNew = known === undefined
          await upsert(tx, node, edit)
          const left = await tx<{ id: string }[]>`
            select p.assignment_id as id
              from mooring.placement p
             where p.node = ${node}
               and p.wanted = 'run'`
          const stays = new Set(left.map(({ id }) => id))
          edited.stopping = before.filter(({ assignment_id }) => !stays.has(assignment_id))
          const [row] = await tx`select n.* from mooring.node_status n where n.node = ${node}`
          edited.row = row!
          if (dryRun) throw new DryRun()
        })
      } catch (error) {
        if (!(error instanceof DryRun)) throw error
      }
      return edited
    },
    placementsOf: (node, limit, skip) => sql`
      select p.* from mooring.placements_of(${node}, ${limit}::int, ${skip}::int) p`,
  }
}

const upsert = (
  tx: Sql,
  node: string,
  { weight, labels, maxAssignments, agentBaseUrl, gatewayBaseUrl }: NodeEdit,
) => tx`
  select n.name
    from mooring.upsert_node(
           ${node},
           ${weight ?? null}::float8,
           ${labels === undefined ? null : tx.json(labels)}::jsonb,
           ${maxAssignments ?? null}::int,
           ${agentBaseUrl ?? null},
           ${gatewayBaseUrl ?? null}) n`
