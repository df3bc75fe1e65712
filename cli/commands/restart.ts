import { InvalidArgumentError, Option } from 'commander'
import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import { CommandError } from '../errors.js'
import { calledBy, noSuch } from '../targets/names.js'
import {
  databaseCommand,
  jsonOption,
  millisecondsOf,
  parseAssignmentId,
  parseDuration,
  parsePositive,
} from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { clock, printable } from '../terminal/text.js'
import { json, jsonLine } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { rollingRestart } from '../progress/rolling-restart.js'
import type { RollNews } from '../progress/rolling-restart.js'
import { selectedDeployments, selecting } from '../targets/selection.js'
import type { SelectionOptions } from '../targets/selection.js'
import { stopSignal } from '../signals.js'

interface RollCommandOptions extends DatabaseOptions, JsonOptions {
  atOnce: number
  steady: string
  timeout: string
  reason?: string
}
type DeploymentOptions = RollCommandOptions & SelectionOptions & { hard?: boolean }

export function addRestart(program: Command): void {
  const restart = program
    .command('restart')
    .description('restart instances, one after the other or all at once')
  rolling(selecting(restart.command('deployment', { isDefault: true }), 'deployment'))
    .alias('deployments')
    .description('restart its instances, each after the one before was observed running')
    .option('--hard', 'all at once, on their nodes: adds 1 to the generation')
    .addHelpText(
      'after',
      `
Each instance is stopped, then started on its node, or on another permitted one.
Ctrl-C ends the command; instances already stopped are started by themselves.
In psql, for each assignment: select * from mooring.restart(7);
  --hard: update mooring.deployment set generation = generation + 1
           where name = 'web';
Example: mooring restart web --at-once 2`,
    )
    .action(restartDeployments)
  rolling(
    restart
      .command('assignment')
      .argument('<assignment...>', 'ids, as in the view mooring.placement'),
  )
    .alias('assignments')
    .description('restart these instances alone')
    .addHelpText(
      'after',
      `
In psql: select * from mooring.restart(7);
Example: mooring restart assignment 7`,
    )
    .action(restartAssignments)
}

function rolling(command: Command): Command {
  return databaseCommand(command)
    .option('--at-once <n>', 'at most so many under way at once', parsePositive, 1)
    .addOption(
      new Option('--steady <duration>', 'time each has to run without a crash before the next')
        .argParser(parseDuration)
        .default(parseDuration('2s'), '2s'),
    )
    .addOption(
      new Option('--timeout <duration>', 'time each may take until it runs again')
        .argParser(parseTimeout)
        .default(parseTimeout('5m'), '5m'),
    )
    .option('--reason <text>', 'kept with the events')
    .addOption(
      jsonOption(
        'print an object for each change, then {restarted, skipped, silent}; ' +
          'with --hard [{id, name, generation}]',
      ),
    )
}

async function restartDeployments(named: string[], options: DeploymentOptions): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedDeployments(db, named, options)
    if (!options.hard)
      return roll(
        db,
        rows.map(({ id }) => id),
        undefined,
        options,
        `mooring restart deployment ${rows.map(calledBy).join(' ')}`,
      )
    const generations = new Map(
      (await db.renewDeployments(rows.map(({ id }) => id))).map(({ id, generation }) => [
        id,
        generation,
      ]),
    )
    const done = rows.filter(({ id }) => generations.has(id))
    if (options.json)
      return print(
        json(done.map(({ id, name }) => ({ id, name, generation: generations.get(id) }))),
      )
    print(
      done
        .map(
          (row) =>
            `${calledBy(row)} restarts: ` +
            `${row.enabled ? `${row.running} processes` : 'nothing, it is disabled'}; ` +
            `it is at generation ${generations.get(row.id)}`,
        )
        .join('\n'),
    )
  })
}

async function restartAssignments(ids: string[], options: RollCommandOptions): Promise<void> {
  const wanted = ids.map((id) => BigInt(parseAssignmentId(id)).toString())
  await withDb(options, async (db) => {
    const rows = await db.assignments({ ids: wanted })
    const missing = wanted.find((id) => !rows.some(({ assignment_id }) => assignment_id === id))
    if (missing !== undefined) throw noSuch('assignment', missing, [], '`mooring get assignments`')
    await roll(
      db,
      [...new Set(rows.map(({ deployment_id }) => deployment_id))],
      wanted,
      options,
      `mooring restart assignment ${wanted.join(' ')}`,
    )
  })
}

async function roll(
  db: Queries,
  deployments: string[],
  assignments: string[] | undefined,
  options: RollCommandOptions,
  again: string,
): Promise<void> {
  const result = await rollingRestart(db, {
    deployments,
    assignments,
    atOnce: options.atOnce,
    steadyFor: options.steady,
    timeoutMs: millisecondsOf(options.timeout),
    reason: options.reason,
    signal: stopSignal(),
    say: (news) => print(options.json ? jsonLine(news) : newsText(news)),
  })
  const { restarted, skipped, left, silent } = result
  if (left > 0)
    throw new CommandError(
      `stopped here: ${restarted} restarted, ${left} left; those under way start by themselves`,
      `to continue: \`${again}\``,
    )
  if (options.json) return print(jsonLine({ restarted, skipped, silent }))
  print(
    restarted + skipped === 0
      ? 'nothing to restart: no instance runs'
      : `${restarted} restarted${skipped > 0 ? `, ${skipped} left as they were` : ''}` +
          (silent.length > 0 ? `; silent: ${silent.map(printable).join(', ')}` : ''),
  )
}

function newsText({ state, assignment_id, deployment_id, name, node, note }: RollNews): string {
  const deployment = printable(calledBy({ id: deployment_id, name }))
  const what = `${clock(new Date())} assignment ${assignment_id} of ${deployment}`
  if (state === 'skipped') return `${what} is left as it is: ${printable(note ?? '')}`
  return state === 'stopping' ? `${what} stops on ${node}` : `${what} runs on ${node}`
}

function parseTimeout(value: string): string {
  const duration = parseDuration(value)
  if (millisecondsOf(duration) === 0) throw new InvalidArgumentError('It must be longer than 0.')
  return duration
}
