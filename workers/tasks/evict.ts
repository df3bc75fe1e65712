/** evict: orders the stop of what is no longer permitted on its node, and makes missing daemon instances. */
import type { Task } from 'graphile-worker'

export const evict: Task = async (_payload, { query }) => {
  await query('select count(*) from mooring.evict()')
}
