import type { Command } from 'commander'
import { withDb } from '../database.js'
import { deploymentId } from '../targets/names.js'
import { databaseCommand, jsonOption, wideOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { columnsOf, table } from '../terminal/table.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

export function addExplain(program: Command): void {
  databaseCommand(program.command('explain'))
    .description('show for each node why a deployment may run there or not')
    .argument('<deployment>', 'id or name')
    .addOption(wideOption('show every predicate as a column, '))
    .addOption(jsonOption('print the rows of mooring.explain() as a JSON array'))
    .action(explain)
}

/** The verdict names the failing predicate. The other columns are for --wide and --json. */
const BRIEF = ['node', 'verdict', 'cost', 'assigned', 'here']

async function explain(
  deployment: string,
  options: DatabaseOptions & JsonOptions & { wide?: boolean },
): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.explain(await deploymentId(db, deployment))
    if (options.json) return print(json(rows))
    const columns = columnsOf(rows).map((column) =>
      column.key === 'verdict' ? { ...column, prose: true } : column,
    )
    const shown = options.wide ? columns : columns.filter((column) => BRIEF.includes(column.key))
    print(rows.length > 0 ? table(rows, shown) : 'no nodes yet: start one with `mooring agent`')
  })
}
