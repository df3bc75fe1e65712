/**
 * Shows the progress of a drain: one line for each change on a pipe, a bar on a terminal.
 *
 * Resolves when nothing is left on the node. Rejects when another session ended the drain, or when
 * for 10 s all that is left is blocked and no deadline is set. It changes nothing, so it may be
 * interrupted and started again.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Queries } from '../queries/queries.js'
import type { DrainRow } from '../queries/rows.js'
import { CommandError } from '../errors.js'
import { createPatience, type Patience } from './patience.js'
import { colors, interval, printable } from '../terminal/text.js'
import { jsonLine } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { createScreen } from '../terminal/screen.js'

const POLL_INTERVAL_MS = 500
/** Longer than a place round, and than a restart of an agent. */
const STUCK_AFTER_MS = 10_000
const BAR_WIDTH = 30

export async function watchDrain(
  db: Pick<Queries, 'drainProgress'>,
  node: string,
  {
    json,
    signal,
    patience = createPatience(),
  }: { json: boolean; signal?: AbortSignal; patience?: Patience },
): Promise<void> {
  const terminal = !json && process.stdout.isTTY === true ? createScreen(process.stdout) : null
  try {
    let said = ''
    let stuckSince: number | null = null
    for (; ; await pause(POLL_INTERVAL_MS, undefined, { signal }).catch(() => {})) {
      if (signal?.aborted)
        throw new CommandError(
          `the drain of ${node} goes on, unwatched`,
          `to watch it: \`mooring drain ${node} --wait\`; to end it: \`mooring undrain ${node}\``,
        )
      let row: DrainRow | null
      try {
        row = await db.drainProgress(node)
        patience.answered()
      } catch (error) {
        patience.bear(error)
        continue
      }
      if (!row)
        throw new CommandError(
          `another session has ended the drain of ${node}`,
          `see \`mooring events\`; to begin again: \`mooring drain ${node} --wait\``,
        )
      const text = json ? jsonLine(withoutClock(row)) : drainText(row)
      if (terminal)
        terminal.draw([
          `${bar(row)} ${text}`,
          ...(row.why ? [colors.yellow(printable(row.why))] : []),
        ])
      else if (text !== said) print(text)
      said = text
      if (row.done) return
      if (!isStuck(row)) stuckSince = null
      else if (performance.now() - (stuckSince ??= performance.now()) > STUCK_AFTER_MS) {
        throw new CommandError(
          `${row.left} of ${node} have nowhere to go: ${row.why ?? ''}`,
          `make room for them, or stop them: \`mooring drain ${node} --deadline 0 --wait\`; ` +
            `to give up: \`mooring undrain ${node}\``,
        )
      }
    }
  } finally {
    terminal?.close()
  }
}

const isStuck = (row: DrainRow): boolean =>
  row.blocked === row.left && row.moving === 0 && row.deadline_at === null

export function drainText(row: DrainRow): string {
  if (row.done) {
    const moving = row.moving > 0 ? `, ${row.moving} on their way` : ''
    return `${row.node} is drained: nothing is left on it${moving}`
  }
  const facts = [`${row.left} of ${row.total} left`, `${row.moving} moving`]
  if (row.blocked > 0) facts.push(`${row.blocked} blocked`)
  if (row.eta !== null && process.stdout.isTTY) facts.push(`about ${interval(row.eta)}`)
  const why = row.why === null || process.stdout.isTTY ? '' : ` (${printable(row.why)})`
  return `${row.node} drains: ${facts.join(', ')}${why}`
}

export function bar(row: Pick<DrainRow, 'total' | 'left'>): string {
  const full =
    row.total === 0 ? BAR_WIDTH : Math.round((BAR_WIDTH * (row.total - row.left)) / row.total)
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_WIDTH - full)}]`
}

/** Leaves out the estimate, because it changes with every read. */
function withoutClock({ eta: _, ...row }: DrainRow): Record<string, unknown> {
  return row
}
