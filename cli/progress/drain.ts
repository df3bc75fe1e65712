/**
 * Looks on while a node is drained. On a pipe one line for each change, on a terminal a bar in its place.
 *
 * Resolves only when nothing is left on the node. Rejects when the drain was ended by somebody, or when for a while nothing moves, nothing can and
 * nothing will: everything that is left is blocked, without a deadline. It changes nothing, so it may be interrupted and begun again.
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
/** Longer than a place round, and than a node's return from a restart of its agent. */
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
          `the drain of ${node} goes on, without anybody who looks`,
          `to look on: \`mooring drain ${node} --wait\`; to end it: \`mooring undrain ${node}\``,
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
          `the drain of ${node} was ended by somebody`,
          'see `mooring events`; to begin again: `mooring drain ' + node + ' --wait`',
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
          `make room for them, or stop them: \`mooring drain ${node} --deadline 0 --wait\`; to give up: \`mooring undrain ${node}\``,
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
  if (row.done)
    return `${row.node} is drained: nothing is left on it${row.moving > 0 ? `, ${row.moving} on their way` : ''}`
  const facts = [`${row.left} of ${row.total} left`, `${row.moving} moving`]
  if (row.blocked > 0) facts.push(`${row.blocked} blocked`)
  if (row.eta !== null && process.stdout.isTTY) facts.push(`about ${interval(row.eta)}`)
  return `${row.node} drains: ${facts.join(', ')}${row.why === null || process.stdout.isTTY ? '' : ` (${printable(row.why)})`}`
}

export function bar(row: Pick<DrainRow, 'total' | 'left'>): string {
  const full =
    row.total === 0 ? BAR_WIDTH : Math.round((BAR_WIDTH * (row.total - row.left)) / row.total)
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_WIDTH - full)}]`
}

/** The estimate changes with every look: a line for each would say nothing new. */
function withoutClock({ eta: _, ...row }: DrainRow): Record<string, unknown> {
  return row
}
