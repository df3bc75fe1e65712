import type { Command } from 'commander'
import { withDb } from '../database.js'
import { drainText, watchDrain } from '../progress/drain.js'
import { databaseCommand, jsonOption, maxMovesOption, parseDuration } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { stopSignal } from '../signals.js'

interface DrainOptions extends DatabaseOptions, JsonOptions {
  to?: string
  maxMoves?: number
  deadline?: string
  wait?: boolean
}

export function addDrain(program: Command): void {
  databaseCommand(program.command('drain'))
    .description('close a node for new work and move its instances away, a few at a time')
    .argument('<node>')
    .option('--to <node>', 'move all of them there (default: to any permitted node)')
    .addOption(maxMovesOption())
    .option(
      '--deadline <duration>',
      'then stop all that are left, even without another node: 10m, 90s, 0 for now',
      parseDuration,
    )
    .option('--wait', 'show the progress; exit 0 only when nothing is left on the node')
    .addOption(
      jsonOption('print the row of mooring.drain_progress; with --wait one line for each change'),
    )
    .addHelpText(
      'after',
      `
An instance that no other node can take runs on. It is shown as blocked, with
the reason. Daemons are not counted: they end with the node's agent.
Options change a drain under way. Without options the command only shows it.`,
    )
    .action(drain)
}

async function drain(node: string, options: DrainOptions): Promise<void> {
  await withDb(options, async (db) => {
    const changes =
      options.to !== undefined || options.maxMoves !== undefined || options.deadline !== undefined
    const row =
      (changes ? null : await db.drainProgress(node)) ??
      (await db.drainNode(node, {
        target: options.to,
        maxMoves: options.maxMoves,
        deadline: options.deadline,
      }))
    if (options.wait)
      return watchDrain(db, node, { json: options.json === true, signal: stopSignal() })
    const next =
      `follow it with \`mooring drain ${node} --wait\`, ` +
      `end it with \`mooring undrain ${node}\``
    print(options.json ? json(row) : `${drainText(row)}${row.done ? '' : `\n${next}`}`)
  })
}
