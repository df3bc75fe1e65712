/** An event as one line: for pipes and listings, and with colours for the table of `up`. */
import type { EventRow } from '../queries/rows.js'
import { cell, clock, colors } from './text.js'

/** Kinds of events of which one asks who did it. */
const DEEDS = new RegExp(
  '^(?:deployment_|setting_|node_(?:added|changed|enabled|disabled|forgotten|rebound)$|' +
    'drain_(?:started|changed|ended)$|rebalance_started|reaping_resumed)',
)
const BAD_KINDS = /reaped|refused|failed|lost|skipped|error/

export function eventText(event: EventRow): string {
  const parts = [clock(event.at), event.kind]
  if (event.assignment_id !== null) parts.push(`assignment ${event.assignment_id}`)
  if (event.deployment_id !== null) parts.push(`deployment ${event.deployment_id}`)
  if (event.node !== null) parts.push(cell(event.node))
  if (event.epoch !== null) parts.push(`epoch ${event.epoch}`)
  if (event.reason !== null && event.reason !== '') parts.push(`- ${cell(event.reason)}`)
  if (DEEDS.test(event.kind)) parts.push(`by ${cell(event.actor)}`)
  return parts.join(' ')
}

export function colouredEventText(event: EventRow): string {
  const kind = event.kind.padEnd(16)
  const parts = [
    colors.dim(clock(event.at)),
    BAD_KINDS.test(event.kind) ? colors.red(kind) : kind,
    event.assignment_id === null ? '' : ` assignment ${event.assignment_id}`,
    event.node === null ? '' : ` ${cell(event.node)}`,
    event.reason ? colors.dim(` ${cell(event.reason)}`) : '',
  ]
  return `${parts[0]} ${parts.slice(1).join('')}`
}
