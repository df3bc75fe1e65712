import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption, parsePositive } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'

interface RebalanceOptions extends DatabaseOptions, JsonOptions {
  maxMoves: number
  apply?: boolean
}

export function addRebalance(program: Command): void {
  databaseCommand(program.command('rebalance'))
    .description('show which moves would even out the load; with --apply make them')
    .option('--max-moves <n>', 'so many on their way at once', parsePositive, 10)
    .option('--apply', 'move them: each is stopped where it runs, and then started where it goes')
    .addOption(jsonOption('print the rows of mooring.rebalance() as a JSON array'))
    .addHelpText(
      'after',
      `
Left alone: pinned work, daemons, what is on its way already, what came to its node within setting.rebalance_cooldown, work under policies of kind affinity.`,
    )
    .action(rebalance)
}

async function rebalance(options: RebalanceOptions): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.rebalance(options.maxMoves, { dryRun: !options.apply })
    if (options.json) return print(json(rows))
    if (rows.length === 0)
      return print(
        `nothing to move: no move is worth it, or what could move came to its node within setting.rebalance_cooldown, or ${options.maxMoves === 1 ? '1 is on its' : `${options.maxMoves} are on their`} way already`,
      )
    const moves = rows.length === 1 ? '1 move' : `${rows.length} moves`
    print(
      table(rows, [
        { key: 'assignment_id', title: 'assignment' },
        { key: 'from_node', title: 'from' },
        { key: 'to_node', title: 'to' },
        { key: 'gain', align: 'right' },
      ]),
    )
    print(
      options.apply
        ? `${moves} begun: \`mooring events -f\``
        : `${moves}, none made: \`mooring rebalance --max-moves ${options.maxMoves} --apply\``,
    )
  })
}
