import type { FleetRow } from '../queries/rows.js'
import { cell, counted } from './text.js'

/** The fleet in one line: its counts, and what holds it back. */
export function fleetText(fleet: FleetRow): string {
  const { healthy, nodes, deployments, assigned, assignments, running, waiting, failing, workers } =
    fleet
  const counts = [
    `${healthy} of ${nodes} nodes healthy`,
    counted(deployments, 'deployment'),
    `${assigned} of ${assignments} assigned`,
    `${running} running`,
    `${waiting} waiting`,
    ...(failing > 0 ? [`${failing} failing`] : []),
    counted(workers, 'worker'),
  ]
  return `${counts.join(', ')}${holdText(fleet)}${pauseText(fleet)}`
}

const holdText = ({ hold }: FleetRow): string =>
  hold === null ? '' : ` - on hold, nothing is claimed, reaped or started: ${cell(hold)}`

const pauseText = ({ reap_paused: reason }: FleetRow): string =>
  reason === null
    ? ''
    : ` - reaping is paused: ${cell(reason)} (if the nodes are dead: \`mooring resume-reaping\`)`
