import type { Command } from 'commander'
import { ASSIGNMENT_COLUMNS, packageText } from '../terminal/columns.js'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import type { EventRow, PlacementRow } from '../queries/rows.js'
import { calledBy, deploymentsNamed, nodesNamed } from '../targets/names.js'
import { databaseCommand, jsonOption, parseCount, wideOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { cell, colors, interval, printable, since } from '../terminal/text.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'
import { eventText } from '../terminal/event-text.js'
import { drainText } from '../progress/drain.js'

interface DescribeOptions extends DatabaseOptions, JsonOptions {
  events: number
}

/** The first page of a large node. `mooring get assignments --node` shows the others. */
const PLACEMENTS_SHOWN = 50

export function addDescribe(program: Command): void {
  const describe = program
    .command('describe')
    .description('show a deployment or a node: its row, placements, obstacles and last events')
  const kind = (
    name: string,
    fields: string,
    action: (named: string, options: DescribeOptions) => Promise<void>,
  ) =>
    databaseCommand(describe.command(name))
      .alias(`${name}s`)
      .argument(`<${name}>`, 'id or name')
      .option('--events <n>', 'the last n events', parseCount, 10)
      .addOption(wideOption())
      .addOption(jsonOption(`print ${fields} as JSON`))
      .action(action)
  kind('deployment', '{deployment, private, placements, unplaced, events}', deployment)
    .description('its spec, placements and obstacles; names of the environment, never its values')
    .addHelpText(
      'after',
      `
In psql: select * from mooring.placement where deployment_id = 7;
         select * from mooring.unplaced where deployment_id = 7;
Example: mooring describe deployment web`,
    )
  kind('node', '{node, drain, placements, events}', node)
    .description('its row, its placements, its drain')
    .addHelpText(
      'after',
      `
In psql: select * from mooring.node_status where node = 'host-a';
         select * from mooring.placements_of('host-a');
Example: mooring describe node host-a`,
    )
}

async function deployment(named: string, options: DescribeOptions): Promise<void> {
  await withDb(options, async (db) => {
    const [row] = await deploymentsNamed(db, [named])
    const { id } = row!
    const hidden = await db.privateOf(id)
    const [placements, unplaced, events] = [
      await db.assignments({ deployments: [id] }),
      await db.unplacedOf(id),
      await lastEvents(db, { deployment: id }, options),
    ]
    if (options.json)
      return print(json({ deployment: row, private: hidden, placements, unplaced, events }))
    const {
      name,
      type,
      enabled,
      replicas,
      policy,
      labels,
      selector,
      pinned_node,
      needs_urls,
      on_lost,
      handover,
      lease_ttl,
      stop_grace,
      generation,
      created_at,
      updated_at,
    } = row!
    const paragraphs = [
      fieldsText(`deployment ${id}${name === null ? '' : ` ${name}`}`, [
        ['package', packageText(row!)],
        ...(hidden
          ? ([
              ['command', hidden.command],
              ['args', hidden.args.length > 0 ? hidden.args : null],
              [
                'env',
                hidden.env_names.length > 0
                  ? `${hidden.env_names.join(', ')} (values are not shown)`
                  : null,
              ],
            ] as Fields)
          : ([['command, args, env', 'not for your role']] as Fields)),
        [
          'runs',
          type === 'daemon'
            ? 'a daemon: once on every permitted node'
            : `${replicas} ${replicas === 1 ? 'replica' : 'replicas'}`,
        ],
        ['enabled', enabled],
        ['policy', policy],
        ['labels', labels],
        ['selector', selector],
        ['pinned to', pinned_node],
        ['needs URLs', needs_urls === true ? true : null],
        ['when cut off', on_lost],
        ['moves', handover],
        ['lease', lease_ttl === null ? null : interval(lease_ttl)],
        ['stop grace', interval(stop_grace)],
        ['generation', generation],
        ['created', created_at],
        ['changed', updated_at],
      ]),
    ]
    paragraphs.push(
      placements.length > 0 ? table(placements, ASSIGNMENT_COLUMNS) : 'it has no assignments',
    )
    if (unplaced.length > 0)
      paragraphs.push(
        [...new Set(unplaced.map(({ reason }) => reason))]
          .map((reason) => colors.yellow(`waiting: ${printable(reason)}`))
          .join('\n') + `\nthe reason for each node: \`mooring explain ${calledBy(row!)}\``,
      )
    const failing = placements.find(
      ({ run_state }) => run_state === 'backoff' || run_state === 'failed',
    )
    if (failing) paragraphs.push(`its output: \`mooring logs ${failing.assignment_id}\``)
    print([...paragraphs, ...eventsText(events)].join('\n\n'))
  })
}

async function node(named: string, options: DescribeOptions): Promise<void> {
  await withDb(options, async (db) => {
    const [row] = await nodesNamed(db, [named])
    const { node: name } = row!
    const [drain, placements, events] = [
      await db.drainProgress(name),
      (await db.placementsOf(name, PLACEMENTS_SHOWN, 0)) as PlacementRow[],
      await lastEvents(db, { node: name }, options),
    ]
    if (options.json) return print(json({ node: row, drain, placements, events }))
    const paragraphs = [
      fieldsText(`node ${name}`, [
        ['health', row!.health],
        ['last beat', row!.beat_age === null ? 'never' : `${interval(row!.beat_age)} ago`],
        ['left', row!['left_at'] === null ? null : `${since(row!['left_at'])} ago`],
        ['enabled', row!.enabled],
        ['trusts', row!['trusts'] ?? 'nothing'],
        ['runs', row!.drivers.join(', ')],
        ['containment', row!['containment']],
        ['labels', row!.labels],
        ['weight', row!.weight],
        ['at most', row!['max_assignments']],
        ['owns', `${row!.assignments}, ${row!.running} running`],
        ['cpu %', row!.cpu_pct],
        ['memory MiB', row!.memory_mb],
        ['disk free %', row!.disk_free_pct],
        ['agent URL', row!['agent_base_url']],
        ['gateway URL', row!['gateway_base_url']],
        ['version', row!['version']],
        ['session', row!.session],
      ]),
    ]
    if (drain)
      paragraphs.push(colors.yellow(`${drainText(drain)}\nend it with \`mooring undrain ${name}\``))
    const rest = row!.assignments - placements.length
    paragraphs.push(
      placements.length > 0
        ? table(
            placements,
            ASSIGNMENT_COLUMNS.filter(({ key }) => key !== 'node'),
          ) + (rest > 0 ? `\n... and ${rest} more: \`mooring get assignments --node ${name}\`` : '')
        : 'it owns nothing',
    )
    if (!row!.enabled)
      paragraphs.push(`it takes no new work; to open it: \`mooring enable node ${name}\``)
    print([...paragraphs, ...eventsText(events)].join('\n\n'))
  })
}

const lastEvents = (
  db: Queries,
  filter: { deployment?: string; node?: string },
  { events }: DescribeOptions,
): Promise<EventRow[]> => db.events(filter, events)

const eventsText = (events: readonly EventRow[]): string[] =>
  events.length > 0 ? [events.map(eventText).join('\n')] : []

type Fields = [title: string, value: unknown][]

/** Null and empty values are left out. */
function fieldsText(title: string, fields: Fields): string {
  const shown = fields.filter(
    ([, value]) =>
      value !== null &&
      value !== undefined &&
      !(typeof value === 'object' && !(value instanceof Date) && Object.keys(value).length === 0),
  )
  const width = Math.max(...shown.map(([name]) => name.length))
  return [
    colors.bold(printable(title)),
    ...shown.map(([name, value]) => `  ${colors.dim(name.padEnd(width))}  ${cell(value)}`),
  ].join('\n')
}
