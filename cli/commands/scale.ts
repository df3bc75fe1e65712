import type { Command } from 'commander'
import { withDb } from '../database.js'
import { CommandError } from '../errors.js'
import { calledBy } from '../targets/names.js'
import { databaseCommand, jsonOption, parseCount, psqlAndExample } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { selectedDeployments, selecting } from '../targets/selection.js'
import type { SelectionOptions } from '../targets/selection.js'

type Options = DatabaseOptions & JsonOptions & SelectionOptions & { replicas: number }

export function addScale(program: Command): void {
  const scale = program.command('scale').description('set how many instances of a deployment run')
  databaseCommand(selecting(scale.command('deployment', { isDefault: true }), 'deployment'))
    .alias('deployments')
    .description('set its replicas')
    .requiredOption('--replicas <n>', 'number of instances; 0 stops them all', parseCount)
    .addOption(jsonOption('print [{id, name, replicas, was}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "update mooring.deployment set replicas = 3 where name = 'web';",
        'mooring scale web --replicas 3',
      ),
    )
    .action(scaleDeployments)
}

async function scaleDeployments(named: string[], options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedDeployments(db, named, options)
    const daemon = rows.find(({ type }) => type === 'daemon')
    if (daemon)
      throw new CommandError(
        `${calledBy(daemon)} is a daemon and is not scaled: it runs once on every permitted node`,
        'for fewer nodes give it a selector, for none: ' +
          `\`mooring disable deployment ${calledBy(daemon)}\``,
      )
    await db.scaleDeployments(
      rows.map(({ id }) => id),
      options.replicas,
    )
    if (options.json)
      return print(
        json(
          rows.map(({ id, name, replicas }) => ({
            id,
            name,
            replicas: options.replicas,
            was: replicas,
          })),
        ),
      )
    print(
      rows
        .map(
          (row) =>
            `${calledBy(row)} ${changeText(row.replicas, options.replicas)}` +
            (row.enabled ? '' : ', and is disabled'),
        )
        .join('\n'),
    )
  })
}

const changeText = (from: number, to: number): string =>
  from === to ? `has ${from} already` : `goes from ${from} to ${to}`
