import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption, parseDuration, psqlAndExample } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { UsageError } from '../errors.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

type Options = DatabaseOptions & JsonOptions & { for?: string; end?: boolean }

export function addHold(program: Command): void {
  databaseCommand(program.command('hold'))
    .description('let the work of a node wait while its host reboots')
    .argument('<node>')
    .option('--for <duration>', 'at most so long: 15m, 2h, at most 7d', parseDuration)
    .option('--end', 'end the hold now; without its agent the work goes elsewhere')
    .addOption(jsonOption('print {node, held_until} as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "select * from mooring.hold_node('host-a', '15 min');",
        'mooring hold host-a --for 15m',
      ),
    )
    .action(hold)
}

async function hold(node: string, options: Options): Promise<void> {
  if ((options.for === undefined) === (options.end !== true))
    throw new UsageError('give --for DURATION, or --end')
  await withDb(options, async (db) => {
    const until = await db.holdNode(node, options.end ? '0' : options.for!)
    print(
      options.json
        ? json({ node, held_until: until })
        : until === null
          ? `${node} is not held`
          : `the work of ${node} waits for it until ${until.toISOString()}; ` +
            `it ends when its agent starts again, or with \`mooring hold ${node} --end\``,
    )
  })
}
