/** evict: stops what its node no longer permits, and makes missing daemon instances. */
import type { Task } from 'graphile-worker'

export const evict: Task = async (_payload, { query }) => {
  await query('select count(*) from mooring.evict()')
}
