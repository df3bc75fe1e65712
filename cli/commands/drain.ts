import type { Command } from 'commander'
import { withDb } from '../database.js'
import { drainText, watchDrain } from '../progress/drain.js'
import { databaseCommand, jsonOption, parseDuration, parsePositive } from '../options.js'
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
    .description('close a node for new work and move away what it runs, a few at a time')
    .argument('<node>')
    .option('--to <node>', 'move everything there (default: wherever each may run)')
    .option(
      '--max-moves <n>',
      'so many on their way at once (default: setting.drain_max_moves)',
      parsePositive,
    )
    .option(
      '--deadline <duration>',
      'after this long stop everything that is left at once, wherever it may go: 10m, 90s, 0 for now',
      parseDuration,
    )
    .option('--wait', 'show the progress, and exit 0 only when nothing is left on the node')
    .addOption(
      jsonOption(
        'print the row of mooring.drain_progress as JSON; with --wait one line for each change',
      ),
    )
    .addHelpText(
      'after',
      `
What no other node can take runs on and is shown as blocked, with the reason. Daemons are not waited for: they end with the node's agent.
A drain that is under way gets the options given now; without any it goes on as it is, so \`mooring drain NODE --wait\` just looks on.`,
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
    print(
      options.json
        ? json(row)
        : `${drainText(row)}${row.done ? '' : `\nsee it through with \`mooring drain ${node} --wait\`, end it with \`mooring undrain ${node}\``}`,
    )
  })
}
