/**
 * reap: releases the assignments of nodes whose lease had ended when the round started, by the time
 * that the tick vouched for. Each bounded batch is a transaction, until one finds no more.
 */
import type { Task } from 'graphile-worker'

/** A tenth of a second of work. The place job that the first batch requests sees what is freed. */
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
