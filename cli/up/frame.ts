/** The picture `mooring up` draws of a snapshot, as lines. Pure. */
import type { EventRow } from '../queries/rows.js'
import { cell, clock, colors, interval, table } from '../terminal/table.js'
import type { Column } from '../terminal/table.js'
import { fleetText, processText, statesOf } from './snapshot.js'
import type { ProcessView, Snapshot } from './snapshot.js'

export interface FrameOptions {
  rows: number
  /** The last line: what can be typed now. */
  footer: string
}

const FEWEST_EVENTS = 3

export function frameOf(snapshot: Snapshot, { rows, footer }: FrameOptions): string[] {
  const head: string[] = ['']
  if (snapshot.problem !== null) head.push(colors.red(`database: ${cell(snapshot.problem)}`))
  if (snapshot.view) {
    const { fleet, nodes, states, unplaced } = snapshot.view
    head.push(colors.bold(fleetText(fleet)))
    for (const waiting of unplaced)
      head.push(
        colors.yellow(
          `  waiting: assignment ${waiting.assignment_id} (${cell(waiting.package_name)}): ${cell(waiting.reason)}`,
        ),
      )
    head.push('')
    if (nodes.length > 0)
      head.push(
        ...table(
          nodes.map((node) => ({ ...node, states: statesOf(node.node, states) })),
          NODE_COLUMNS,
        ).split('\n'),
        '',
      )
  }
  const troubled = snapshot.processes.filter((process) => process.state !== 'running')
  head.push(...troubled.map((process) => processLine(process)))
  const room = Math.max(FEWEST_EVENTS, rows - head.length - 3)
  const events = (snapshot.view?.events ?? []).slice(-room).map(eventLine)
  return [...head, ...events, '', colors.dim(footer)]
}

function processLine(process: ProcessView): string {
  const line = `process ${process.name}: ${processText(process)}`
  return process.state === 'failed' || process.state === 'waiting'
    ? colors.red(line)
    : colors.dim(line)
}

const HEALTH_COLOURS: Record<string, (text: string) => string> = {
  HEALTHY: colors.green,
  DRAINING: colors.yellow,
  DISABLED: colors.yellow,
  UNHEALTHY: colors.red,
  STALE: colors.red,
  UNKNOWN: colors.dim,
}

export function health(text: string): string {
  return (HEALTH_COLOURS[text] ?? String)(text)
}

/** Also the node table of `mooring status`; `states` is added by who has the counts. */
export const NODE_COLUMNS: Column[] = [
  { key: 'node' },
  { key: 'health', paint: health },
  { key: 'beat_age', title: 'last beat', align: 'right', text: (value) => interval(value) },
  { key: 'assignments', title: 'assigned', align: 'right' },
  { key: 'running', align: 'right' },
  { key: 'states', title: 'not running', text: (value) => othersText(value) },
  { key: 'cpu_pct', title: 'cpu %', align: 'right' },
  {
    key: 'memory_mb',
    title: 'memory MiB',
    align: 'right',
    text: (value) =>
      value === null || value === undefined ? '-' : String(Math.round(Number(value))),
  },
  { key: 'disk_free_pct', title: 'disk free %', align: 'right' },
]

function othersText(value: unknown): string {
  const states = Object.entries((value ?? {}) as Record<string, number>).filter(
    ([state]) => state !== 'running',
  )
  return states.length === 0 ? '-' : states.map(([state, count]) => `${count} ${state}`).join(', ')
}

const BAD_KINDS = /reaped|refused|failed|lost|skipped|error/

function eventLine(event: EventRow): string {
  const kind = event.kind.padEnd(16)
  const where = event.node === null ? '' : ` ${cell(event.node)}`
  const what = event.assignment_id === null ? '' : ` assignment ${event.assignment_id}`
  const why = event.reason ? colors.dim(` ${cell(event.reason)}`) : ''
  return `${colors.dim(clock(event.at))} ${BAD_KINDS.test(event.kind) ? colors.red(kind) : kind}${what}${where}${why}`
}
