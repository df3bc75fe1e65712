import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption, parsePositive, wideOption } from '../options.js'
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
    .option('--max-moves <n>', 'at most so many under way at once', parsePositive, 10)
    .option('--apply', 'make the moves: each is stopped, then started on its new node')
    .addOption(wideOption())
    .addOption(jsonOption('print the rows of mooring.rebalance() as a JSON array'))
    .addHelpText(
      'after',
      `
Replicas of one deployment that share a node are parted first.
Not moved: pinned deployments, daemons, policies of kind affinity, moves under
way, and instances that moved within setting.rebalance_cooldown.`,
    )
    .action(rebalance)
}

async function rebalance(options: RebalanceOptions): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.rebalance(options.maxMoves, { dryRun: !options.apply })
    if (options.json) return print(json(rows))
    if (rows.length === 0)
      return print(
        'nothing to move: no move is worth it, or the candidates moved within ' +
          'setting.rebalance_cooldown, or ' +
          `${options.maxMoves} ${options.maxMoves === 1 ? 'is' : 'are'} under way already`,
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
