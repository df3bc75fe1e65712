import type { Command } from 'commander'
import { withDb } from '../database.js'
import { drainText } from '../progress/drain.js'
import { databaseCommand, jsonOption, parseCount, wideOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { colors } from '../terminal/text.js'
import type { Queries } from '../queries/queries.js'
import { json, jsonLine } from '../terminal/json.js'
import { showAgain } from '../terminal/listing.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'
import { FAILING_COLUMNS, NODE_COLUMNS, UNPLACED_COLUMNS, withStates } from '../terminal/columns.js'
import { fleetText } from '../terminal/fleet-text.js'

interface StatusOptions extends DatabaseOptions, JsonOptions {
  limit: number
  watch?: boolean
}

const WATCH_INTERVAL_MS = 1_000

export function addStatus(program: Command): void {
  databaseCommand(program.command('status'))
    .description('show the fleet: nodes, counts, what fails or waits and why')
    .option('-n, --limit <n>', 'at most n failing and n waiting assignments', parseCount, 20)
    .option('-w, --watch', 'show it every second until Ctrl-C')
    .addOption(wideOption())
    .addOption(
      jsonOption(
        'print {fleet, nodes, failing, unplaced, drains} as JSON, the rows of these views',
      ),
    )
    .action(showStatus)
}

async function showStatus(options: StatusOptions): Promise<void> {
  await withDb(options, async (db) => {
    const read = () => statusText(db, options)
    if (options.watch) return showAgain(WATCH_INTERVAL_MS, read, options)
    print(await read())
  })
}

async function statusText(db: Queries, options: StatusOptions): Promise<string> {
  const [fleet, nodes, failing, unplaced, drains] = [
    await db.fleet(),
    await db.nodes(),
    await db.failing(options.limit),
    await db.unplaced(options.limit),
    await db.drains(),
  ]
  const rows = { fleet, nodes, failing, unplaced, drains }
  if (options.json) return options.watch ? jsonLine(rows) : json(rows)
  const states = await db.states()
  const paragraphs = [colors.bold(fleetText(fleet))]
  if (fleet.placement_lock_holder !== null)
    paragraphs.push(
      colors.yellow(`placement lock held by ${JSON.stringify(fleet.placement_lock_holder)}`),
    )
  paragraphs.push(
    nodes.length > 0
      ? table(withStates(nodes, states), NODE_COLUMNS)
      : "no nodes yet; start one with `mooring agent --name host-a --trust '^http-server@'`",
  )
  if (drains.length > 0)
    paragraphs.push(drains.map((drain) => colors.yellow(drainText(drain))).join('\n'))
  for (const [shown, columns, count] of [
    [failing, FAILING_COLUMNS, fleet.failing],
    [unplaced, UNPLACED_COLUMNS, fleet.waiting],
  ] as const) {
    const rest = count - shown.length
    if (shown.length > 0)
      paragraphs.push(table(shown, columns) + (rest > 0 ? `\n... and ${rest} more` : ''))
  }
  return paragraphs.join('\n\n')
}
