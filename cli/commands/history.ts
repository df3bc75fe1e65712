import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption, parseAssignmentId, wideOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'

export function addHistory(program: Command): void {
  databaseCommand(program.command('history'))
    .description('show which nodes owned an assignment, when, and why')
    .argument('<assignment>', 'its id, as in the view mooring.placement')
    .addOption(wideOption())
    .addOption(jsonOption('print the rows of mooring.history() as a JSON array'))
    .action(history)
}

async function history(assignment: string, options: DatabaseOptions & JsonOptions): Promise<void> {
  const id = parseAssignmentId(assignment)
  await withDb(options, async (db) => {
    const rows = await db.history(id)
    if (options.json) return print(json(rows))
    print(
      rows.length > 0
        ? table(rows, [
            { key: 'epoch', align: 'right' },
            { key: 'node' },
            { key: 'since' },
            {
              key: 'until',
              text: (value) => (value instanceof Date ? value.toISOString() : 'now'),
            },
            { key: 'why', prose: true },
            { key: 'actor', leaves: 1 },
            { key: 'ended_why', title: 'ended', prose: true },
          ])
        : `no node has owned assignment ${id} within setting.event_retention`,
    )
  })
}
