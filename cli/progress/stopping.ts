/**
 * Waits until nothing of deleted deployments runs any more, with a line for each change. It changes
 * nothing, so it may be interrupted.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Queries } from '../queries/queries.js'
import { CommandError } from '../errors.js'
import { createPatience, type Patience } from './patience.js'

const POLL_INTERVAL_MS = 250

export async function watchStopping(
  db: Pick<Queries, 'assignments'>,
  deployments: readonly string[],
  {
    say,
    signal,
    patience = createPatience(),
  }: { say: (text: string) => void; signal: AbortSignal; patience?: Patience },
): Promise<void> {
  for (let said = ''; ; await pause(POLL_INTERVAL_MS, undefined, { signal }).catch(() => {})) {
    if (signal.aborted)
      throw new CommandError(
        'they go on stopping, unwatched',
        'see `mooring get assignments`, or `mooring events -f`',
      )
    let left
    try {
      left = await db.assignments({ deployments })
      patience.answered()
    } catch (error) {
      patience.bear(error)
      continue
    }
    if (left.length === 0) return
    const nodes = [...new Set(left.map(({ node }) => node))].sort().join(', ')
    const text = `${left.length} still to stop, on ${nodes}`
    if (text !== said) say(text)
    said = text
  }
}
