/**
 * reap: takes assignments from nodes whose lease was over when the round was started, by the time the tick vouched for; a bounded batch per transaction, until a
 * batch finds nothing more.
 */
import type { Task } from 'graphile-worker'

/** A tenth of a second's work. What is freed is seen by the place job that the first batch asked for. */
const BATCH = 10_000

export const reap: Task = async (payload, { query, abortSignal }) => {
  for (;;) {
    const { rows } = await query<{ reaped: number }>(
      'select count(*)::int as reaped from mooring.reap($1, $2)',
      [BATCH, (payload as { judged_at?: string } | null)?.judged_at ?? null],
    )
    if ((rows[0]?.reaped ?? 0) < BATCH || abortSignal.aborted) return
  }
}
