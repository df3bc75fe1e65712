import type { Command } from 'commander'
import { withDb } from '../database.js'
import { calledBy } from '../targets/names.js'
import { databaseCommand, jsonOption, psqlAndExample, yesOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import {
  confirmFound,
  selectedDeployments,
  selectedNodes,
  selecting,
} from '../targets/selection.js'
import type { SelectionOptions } from '../targets/selection.js'

type Options = DatabaseOptions & JsonOptions & SelectionOptions & { yes?: boolean }

export function addEnable(program: Command): void {
  const enable = program
    .command('enable')
    .description('let deployments run, or give nodes new work again')
  databaseCommand(selecting(enable.command('deployment'), 'deployment'))
    .alias('deployments')
    .description('let it run')
    .addOption(jsonOption('print [{id, name, enabled, changed}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "update mooring.deployment set enabled = true where name = 'web';",
        'mooring enable deployment web',
      ),
    )
    .action((named: string[], options: Options) => switchDeployments(named, options, true))
  databaseCommand(selecting(enable.command('node'), 'node'))
    .alias('nodes')
    .description('open it for new work')
    .addOption(jsonOption('print [{node, enabled}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "select from mooring.set_node_enabled('host-a', true);",
        'mooring enable node host-a',
      ),
    )
    .action((named: string[], options: Options) => switchNodes(named, options, true))
}

export function addDisable(program: Command): void {
  const disable = program
    .command('disable')
    .description('stop deployments and keep their rows, or give nodes no new work')
  databaseCommand(selecting(disable.command('deployment'), 'deployment'))
    .alias('deployments')
    .description('stop its processes; the row stays')
    .addOption(yesOption())
    .addOption(jsonOption('print [{id, name, enabled, changed}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "update mooring.deployment set enabled = false where name = 'web';",
        'mooring disable deployment -l tier=batch',
      ),
    )
    .action((named: string[], options: Options) => switchDeployments(named, options, false))
  databaseCommand(selecting(disable.command('node'), 'node'))
    .alias('nodes')
    .description('give it no new work; its instances stay (mooring drain moves them)')
    .addOption(jsonOption('print [{node, enabled}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "select from mooring.set_node_enabled('host-a', false);",
        'mooring disable node host-a',
      ),
    )
    .action((named: string[], options: Options) => switchNodes(named, options, false))
}

/** The words of Kubernetes for the same. */
export function addCordon(program: Command): void {
  for (const [word, enabled] of [
    ['cordon', false],
    ['uncordon', true],
  ] as const)
    databaseCommand(selecting(program.command(word, { hidden: true }), 'node'))
      .description(`the same as \`mooring ${enabled ? 'enable' : 'disable'} node\``)
      .addOption(jsonOption('print [{node, enabled}] as JSON'))
      .action((named: string[], options: Options) => switchNodes(named, options, enabled))
}

async function switchDeployments(
  named: string[],
  options: Options,
  enabled: boolean,
): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedDeployments(db, named, options)
    if (!enabled) await confirmFound('disable', 'deployment', rows.map(calledBy), options)
    const changed = new Set(
      (
        await db.enableDeployments(
          rows.map(({ id }) => id),
          enabled,
        )
      ).map(({ id }) => id),
    )
    if (options.json)
      return print(
        json(rows.map(({ id, name }) => ({ id, name, enabled, changed: changed.has(id) }))),
      )
    const done = enabled ? 'is enabled' : 'is disabled: its processes stop'
    const before = `was ${enabled ? 'enabled' : 'disabled'} already`
    print(rows.map((row) => `${calledBy(row)} ${changed.has(row.id) ? done : before}`).join('\n'))
  })
}

async function switchNodes(named: string[], options: Options, enabled: boolean): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedNodes(db, named, options)
    for (const { node } of rows) await db.setNodeEnabled(node, enabled)
    if (options.json) return print(json(rows.map(({ node }) => ({ node, enabled }))))
    print(rows.map(({ node }) => `${node} takes ${enabled ? '' : 'no '}new work`).join('\n'))
  })
}
