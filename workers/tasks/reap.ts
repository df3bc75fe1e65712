/** reap: takes assignments from nodes whose lease is over, a bounded batch per transaction, until a batch finds nothing more. */
import type { Task } from 'graphile-worker'

/** A tenth of a second's work. What is freed is seen by the place job that the first batch asked for. */
const BATCH = 10_000

export const reap: Task = async (_payload, { query, abortSignal }) => {
  for (;;) {
    const { rows } = await query<{ reaped: number }>('select count(*)::int as reaped from mooring.reap($1)', [BATCH])
    if ((rows[0]?.reaped ?? 0) < BATCH || abortSignal.aborted) return
  }
}
