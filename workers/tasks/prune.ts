/** prune: deletes old events. Each bounded batch is a transaction, until one finds none. */
import type { Task } from 'graphile-worker'

export const prune: Task = async (_payload, { query, abortSignal }) => {
  for (;;) {
    const { rows } = await query<{ pruned: string }>('select mooring.prune_events() as pruned')
    if (Number(rows[0]?.pruned ?? 0) === 0 || abortSignal.aborted) return
  }
}
