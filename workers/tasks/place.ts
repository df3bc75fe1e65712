/**
 * place: gives pending assignments to nodes, a window per transaction, so that what is placed is seen and told at once. Cheap when there is
 * nothing to do: claim returns at once when another transaction waits to place, because that one will see our rows.
 */
import type { Task } from 'graphile-worker'
import type { QueryConfig } from 'pg'
import { errorCode } from '../../postgres/errors.js'

const PLACEMENT_HELD = 'MR004'

/** With a name it is parsed and planned once for each connection, which is a tenth of the time from an INSERT to its placement. */
const CLAIM_A_WINDOW: QueryConfig = {
  name: 'mooring: claim a window',
  text: `select count(a.id)::int as placed, s.claim_window
           from mooring.setting s left join lateral mooring.claim(s.claim_window) a on true
          group by s.claim_window`,
}

interface Window {
  placed: number
  claim_window: number
}

export const place: Task = async (_payload, { withPgClient, abortSignal, logger }) => {
  for (;;) {
    try {
      const {
        rows: [window],
      } = await withPgClient((client) => client.query<Window>(CLAIM_A_WINDOW))
      if (window === undefined || window.placed < window.claim_window || abortSignal.aborted) return
    } catch (error) {
      if (errorCode(error) !== PLACEMENT_HELD) throw error
      // not this job's failure: the next round finds the rows
      logger.warn(`${(error as Error).message}: ${(error as { detail?: string }).detail ?? ''}`)
      return
    }
  }
}
