import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import type { SimulatedMoveRow } from '../queries/rows.js'
import { UsageError } from '../errors.js'
import { databaseCommand, jsonOption, maxMovesOption, wideOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'

type Options = DatabaseOptions & JsonOptions

export function addSimulate(program: Command): void {
  const simulate = program
    .command('simulate')
    .description('show placements that would follow; nothing is locked or changed')
  databaseCommand(simulate.command('loss'))
    .description('if a node were lost')
    .argument('<node>')
    .addOption(wideOption())
    .addOption(jsonOption('print the rows of mooring.simulate_node_loss() as a JSON array'))
    .action((node: string, options: Options) =>
      simulateMoves(node, options, (db) => db.simulateNodeLoss(node)),
    )
  databaseCommand(simulate.command('drain'))
    .description('if a node were drained')
    .argument('<node>')
    .addOption(maxMovesOption())
    .addOption(wideOption())
    .addOption(jsonOption('print the rows of mooring.simulate_drain() as a JSON array'))
    .action((node: string, options: Options & { maxMoves?: number }) =>
      simulateMoves(node, options, (db) => db.simulateDrain(node, options.maxMoves)),
    )
  databaseCommand(simulate.command('insert'))
    .description('if a deployment were inserted')
    .argument(
      '<json>',
      'its columns as a JSON object: \'{"package_name": "http-server", "replicas": 3}\'',
    )
    .addOption(wideOption())
    .addOption(jsonOption('print the rows of mooring.simulate_insert() as a JSON array'))
    .action(insert)
}

async function simulateMoves(
  node: string,
  options: Options,
  ask: (db: Queries) => Promise<SimulatedMoveRow[]>,
): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await ask(db)
    if (options.json) return print(json(rows))
    if (rows.length === 0) return print(`${node} runs no instance that would have to move`)
    const nowhere = rows.filter(({ to_node }) => to_node === null).length
    print(
      table(rows, [
        { key: 'assignment_id', title: 'assignment' },
        { key: 'from_node', title: 'from' },
        { key: 'to_node', title: 'to', text: (value) => String(value ?? 'nowhere') },
        { key: 'reason', prose: true },
      ]),
    )
    print(
      `${rows.length - nowhere} would go elsewhere` +
        `${nowhere > 0 ? `, ${nowhere} nowhere` : ''}; nothing was changed`,
    )
  })
}

async function insert(text: string, options: Options): Promise<void> {
  const deployment = objectOf(text)
  await withDb(options, async (db) => {
    const rows = await db.simulateInsert(deployment)
    if (options.json) return print(json(rows))
    print(
      rows.length > 0
        ? table(rows, [
            { key: 'ordinal', align: 'right' },
            { key: 'to_node', title: 'to', text: (value) => String(value ?? 'nowhere') },
            { key: 'reason', prose: true },
          ])
        : 'it would run nowhere: no replicas, or no node that may run it',
    )
  })
}

function objectOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>
  } catch {
    // the text is not repeated, because it may hold a secret
  }
  throw new UsageError(
    'a deployment is given as one JSON object of its columns',
    `for example: mooring simulate insert '{"package_name": "http-server", "replicas": 3}'`,
  )
}
