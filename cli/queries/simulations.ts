/** SQL of what would be: the simulations, and rebalance, which may also do it. Joined to the rest in db.ts. */
import type { Sql } from 'postgres'

/** to_node null: nowhere, and reason says why. */
export interface ForetoldRow {
  assignment_id: string
  deployment_id: string
  from_node: string
  to_node: string | null
  reason: string | null
  [column: string]: unknown
}

export interface ForetoldReplicaRow {
  ordinal: number | null
  to_node: string | null
  reason: string | null
  [column: string]: unknown
}

export interface RebalanceRow {
  assignment_id: string
  deployment_id: string
  from_node: string
  to_node: string
  gain: number
  [column: string]: unknown
}

export interface ForecastDb {
  simulateNodeLoss(node: string): Promise<ForetoldRow[]>
  simulateDrain(node: string, maxMoves: number | undefined): Promise<ForetoldRow[]>
  simulateInsert(deployment: Record<string, unknown>): Promise<ForetoldReplicaRow[]>
  rebalance(maxMoves: number, options: { dryRun: boolean }): Promise<RebalanceRow[]>
}

export function createForecastDb(sql: Sql): ForecastDb {
  return {
    simulateNodeLoss: (node) =>
      sql<ForetoldRow[]>`select s.* from mooring.simulate_node_loss(${node}) s`,
    simulateDrain: (node, maxMoves) =>
      sql<
        ForetoldRow[]
      >`select s.* from mooring.simulate_drain(${node}, ${maxMoves ?? null}::int) s order by s.assignment_id`,
    simulateInsert: (deployment) =>
      sql<
        ForetoldReplicaRow[]
      >`select s.* from mooring.simulate_insert(${sql.json(deployment as never)}::jsonb) s`,
    rebalance: (maxMoves, { dryRun }) =>
      sql<RebalanceRow[]>`select r.* from mooring.rebalance(${maxMoves}::int, ${dryRun}) r`,
  }
}
