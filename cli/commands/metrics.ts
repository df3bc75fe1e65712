import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { FleetRow, RunningRow, NodeRow } from '../queries/rows.js'
import { databaseCommand } from '../options.js'
import type { DatabaseOptions } from '../options.js'
import { print } from '../terminal/stdout.js'

type Sample = readonly [labels: Record<string, string | number | null>, value: number | null]

export function addMetrics(program: Command): void {
  databaseCommand(program.command('metrics'))
    .description('print processes, nodes and the fleet in the text format of Prometheus')
    .addHelpText(
      'after',
      `
For the textfile collector of node_exporter, at intervals:
  mooring metrics > mooring.prom.new && mv mooring.prom.new mooring.prom
mooring_deployment_info labels each running process with its ids. Join it with
the metrics of the process by pid and node.`,
    )
    .action(async (options: DatabaseOptions) => {
      await withDb(options, async (db) =>
        print(metricsText(await db.fleet(), await db.nodes(), await db.running())),
      )
    })
}

export function metricsText(
  fleet: FleetRow,
  nodes: readonly NodeRow[],
  running: readonly RunningRow[],
): string {
  const ofNodes = (value: (node: NodeRow) => number | null): Sample[] =>
    nodes.map((node) => [{ node: node.node }, value(node)])
  return [
    metric(
      'mooring_deployment_info',
      'A process that was observed running; always 1.',
      running.map((row) => [{ ...row }, 1]),
    ),
    metric(
      'mooring_node_info',
      'A node and its health; always 1.',
      nodes.map(({ node, health }) => [{ node, health }, 1]),
    ),
    metric(
      'mooring_node_assignments',
      'What the node owns, daemons included.',
      ofNodes((node) => node.assignments),
    ),
    metric(
      'mooring_node_running',
      'Of these, observed running.',
      ofNodes((node) => node.running),
    ),
    metric(
      'mooring_node_cpu_percent',
      'Of the whole machine, used by the agent and what it runs.',
      ofNodes((node) => node.cpu_pct),
    ),
    metric(
      'mooring_node_memory_mebibytes',
      'Resident, agent and what it runs.',
      ofNodes((node) => node.memory_mb),
    ),
    metric(
      'mooring_node_disk_free_percent',
      'Free on the disk of the agent.',
      ofNodes((node) => node.disk_free_pct),
    ),
    ...(
      [
        ['nodes', 'Registered.'],
        ['healthy', 'Nodes that are HEALTHY.'],
        ['assignments', 'Instances, waiting ones and daemons included.'],
        ['assigned', 'Owned by a node.'],
        ['running', 'Observed running.'],
        ['waiting', 'Wanted, and without an owner.'],
        ['failing', 'On a node, and in back-off, failed or refused there.'],
        ['workers', 'Worker processes that ticked lately.'],
      ] as const
    ).map(([column, help]) => metric(`mooring_fleet_${column}`, help, [[{}, fleet[column]]])),
    metric('mooring_fleet_hold', '1 while nothing is reaped, claimed or started after an outage.', [
      [{}, fleet.hold === null ? 0 : 1],
    ]),
    metric('mooring_fleet_reap_paused', '1 while too many nodes are silent to be believed.', [
      [{}, fleet.reap_paused === null ? 0 : 1],
    ]),
  ]
    .filter(Boolean)
    .join('\n')
}

/** Unknown values are left out, because 0 would be a value. */
function metric(name: string, help: string, samples: readonly Sample[]): string {
  const known = samples.filter(([, value]) => value !== null)
  if (known.length === 0) return ''
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} gauge`,
    ...known.map(([labels, value]) => `${name}${labelsText(labels)} ${value}`),
  ].join('\n')
}

function labelsText(labels: Record<string, string | number | null>): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) =>
      `${name}="${String(value ?? '')
        .replace(/[\\"]/g, '\\$&')
        .replaceAll('\n', '\\n')}"`,
  )
  return pairs.length > 0 ? `{${pairs.join(',')}}` : ''
}
