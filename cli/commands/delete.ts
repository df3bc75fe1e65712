import type { Command } from 'commander'
import { confirm } from '../terminal/confirm.js'
import { withDb } from '../database.js'
import { calledBy } from '../targets/names.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { isFound, selectedDeployments, selectedNodes, selecting } from '../targets/selection.js'
import type { SelectionOptions } from '../targets/selection.js'

type Options = DatabaseOptions & JsonOptions & SelectionOptions & { yes?: boolean }

export function addDelete(program: Command): void {
  const remove = program
    .command('delete')
    .description('delete deployments, or nodes whose agent has stopped')
  databaseCommand(selecting(remove.command('deployment'), 'deployment'))
    .alias('deployments')
    .description('stop its processes and delete it')
    .option('--yes', 'do not ask; needed with -l and --all where there is no terminal')
    .addOption(jsonOption('print [{id, name, stopping}] as JSON'))
    .addHelpText(
      'after',
      `
In psql: delete from mooring.deployment where name = 'web';
Example: mooring delete deployment web`,
    )
    .action(deleteDeployments)
  databaseCommand(selecting(remove.command('node'), 'node'))
    .alias('nodes')
    .description('forget a node whose agent has stopped and that owns nothing')
    .option('--yes', 'do not ask; needed with -l and --all where there is no terminal')
    .addOption(jsonOption('print [{node}] as JSON'))
    .addHelpText(
      'after',
      `
In psql: select from mooring.forget_node('host-a');
Example: mooring drain host-a --wait, stop its agent, mooring delete node host-a`,
    )
    .action(deleteNodes)
}

async function deleteDeployments(named: string[], options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedDeployments(db, named, options)
    if (isFound(options))
      await confirm(
        rows.length === 1 ? 'delete the deployment' : `delete ${rows.length} deployments:`,
        rows.map(calledBy),
        options,
      )
    const deleted = new Set(
      (await db.deleteDeployments(rows.map(({ id }) => id))).map(({ id }) => id),
    )
    const stopping = new Map<string, number>()
    for (const { deployment_id } of await db.assignments({ deployments: [...deleted] }))
      stopping.set(deployment_id, (stopping.get(deployment_id) ?? 0) + 1)
    const done = rows.filter(({ id }) => deleted.has(id))
    if (options.json)
      return print(
        json(done.map(({ id, name }) => ({ id, name, stopping: stopping.get(id) ?? 0 }))),
      )
    print(
      done
        .map(
          (row) =>
            `${calledBy(row)} is deleted${stopping.has(row.id) ? `; ${stopping.get(row.id)} still to stop: \`mooring events -f --deployment ${row.id}\`` : ''}`,
        )
        .join('\n') || 'somebody else has deleted it',
    )
  })
}

async function deleteNodes(named: string[], options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedNodes(db, named, options)
    if (isFound(options))
      await confirm(
        rows.length === 1 ? 'delete the node' : `delete ${rows.length} nodes:`,
        rows.map(({ node }) => node),
        options,
      )
    for (const { node } of rows) {
      await db.forgetNode(node)
      if (!options.json) print(`${node} is forgotten`)
    }
    if (options.json) print(json(rows.map(({ node }) => ({ node }))))
  })
}
