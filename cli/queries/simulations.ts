/** SQL of the simulations, and of rebalance, which may also move. Part of queries.ts. */
import type { Sql } from 'postgres'
import type { RebalanceRow, SimulatedMoveRow, SimulatedReplicaRow } from './rows.js'

export interface SimulationQueries {
  simulateNodeLoss(node: string): Promise<SimulatedMoveRow[]>
  simulateDrain(node: string, maxMoves: number | undefined): Promise<SimulatedMoveRow[]>
  simulateInsert(deployment: Record<string, unknown>): Promise<SimulatedReplicaRow[]>
  rebalance(maxMoves: number, options: { dryRun: boolean }): Promise<RebalanceRow[]>
}

export function createSimulationQueries(sql: Sql): SimulationQueries {
  return {
    simulateNodeLoss: (node) => sql<SimulatedMoveRow[]>`
      select s.* from mooring.simulate_node_loss(${node}) s`,
    simulateDrain: (node, maxMoves) => sql<SimulatedMoveRow[]>`
      select s.*
        from mooring.simulate_drain(${node}, ${maxMoves ?? null}::int) s
       order by s.assignment_id`,
    simulateInsert: (deployment) => sql<SimulatedReplicaRow[]>`
      select s.* from mooring.simulate_insert(${sql.json(deployment as never)}::jsonb) s`,
    rebalance: (maxMoves, { dryRun }) => sql<RebalanceRow[]>`
      select r.* from mooring.rebalance(${maxMoves}::int, ${dryRun}) r`,
  }
}
