/**
 * place: gives pending assignments to nodes, a window per transaction, so that what is placed is seen and told at once. Cheap when there is
 * nothing to do: claim returns at once when another transaction waits to place, because that one will see our rows.
 */
import type { Task } from 'graphile-worker'

export const place: Task = async (_payload, { query, abortSignal }) => {
  for (;;) {
    const { rows } = await query<{ placed: number; claim_window: number }>(
      `select count(*)::int as placed, s.claim_window
         from mooring.setting s left join lateral mooring.claim(s.claim_window) a on true
        group by s.claim_window`,
    )
    const [done] = rows
    if (done === undefined || done.placed < done.claim_window || abortSignal?.aborted) return
  }
}
