/** The picture `mooring up` draws of a snapshot, as lines. Pure. */
import { NODE_COLUMNS, withStates } from '../terminal/columns.js'
import { colouredEventText } from '../terminal/event-text.js'
import { fleetText } from '../terminal/fleet-text.js'
import { cell, colors } from '../terminal/text.js'
import { table } from '../terminal/table.js'
import { processText } from './snapshot.js'
import type { ProcessView, Snapshot } from './snapshot.js'

export interface FrameOptions {
  rows: number
  /** The last line, with what can be typed. */
  footer: string
}

const FEWEST_EVENTS = 3

export function frameOf(snapshot: Snapshot, { rows, footer }: FrameOptions): string[] {
  const head: string[] = ['']
  if (snapshot.problem !== null) head.push(colors.red(`database: ${cell(snapshot.problem)}`))
  if (snapshot.view) {
    const { fleet, nodes, states, unplaced } = snapshot.view
    head.push(colors.bold(fleetText(fleet)))
    for (const { assignment_id, package_name, reason } of unplaced) {
      const what = `assignment ${assignment_id} (${cell(package_name)})`
      head.push(colors.yellow(`  waiting: ${what}: ${cell(reason)}`))
    }
    head.push('')
    if (nodes.length > 0)
      head.push(...table(withStates(nodes, states), NODE_COLUMNS).split('\n'), '')
  }
  const troubled = snapshot.processes.filter((process) => process.state !== 'running')
  head.push(...troubled.map((process) => processLine(process)))
  const room = Math.max(FEWEST_EVENTS, rows - head.length - 3)
  const events = (snapshot.view?.events ?? []).slice(-room).map(colouredEventText)
  return [...head, ...events, '', colors.dim(footer)]
}

function processLine(process: ProcessView): string {
  const line = `process ${process.name}: ${processText(process)}`
  return process.state === 'failed' || process.state === 'waiting'
    ? colors.red(line)
    : colors.dim(line)
}
