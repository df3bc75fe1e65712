/**
 * place: gives pending assignments to nodes. Each window is a transaction of its own, so that a
 * placement becomes visible, and its node notified, at once.
 * claim() returns at once when another transaction waits to place, because that one will see the
 * same rows.
 */
import type { Task } from 'graphile-worker'
import type { QueryConfig } from 'pg'
import { errorCode } from '../../postgres/errors.js'

const PLACEMENT_HELD = 'MR004'

/**
 * The name makes Postgres parse and plan it once for each connection. That saves a tenth of the
 * time from an INSERT to its placement.
 */
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
      // this is no failure of the job, because the next round finds the rows
      logger.warn(`${(error as Error).message}: ${(error as { detail?: string }).detail ?? ''}`)
      return
    }
  }
}
