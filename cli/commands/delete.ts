import type { Command } from 'commander'
import type { DeploymentRow } from '../queries/rows.js'
import { withDb } from '../database.js'
import { calledBy } from '../targets/names.js'
import { databaseCommand, jsonOption, psqlAndExample, yesOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { stopSignal } from '../signals.js'
import { watchStopping } from '../progress/stopping.js'
import {
  confirmFound,
  selectedDeployments,
  selectedNodes,
  selecting,
} from '../targets/selection.js'
import type { SelectionOptions } from '../targets/selection.js'

type Options = DatabaseOptions & JsonOptions & SelectionOptions & { yes?: boolean; wait?: boolean }

export function addDelete(program: Command): void {
  const remove = program
    .command('delete')
    .description('delete deployments, or nodes whose agent has stopped')
  databaseCommand(selecting(remove.command('deployment'), 'deployment'))
    .alias('deployments')
    .description('stop its processes and delete the row')
    .addOption(yesOption())
    .option('--wait', 'exit when nothing of them runs any more')
    .addOption(jsonOption('print [{id, name, stopping}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "delete from mooring.deployment where name = 'web';",
        'mooring delete deployment web',
      ),
    )
    .action(deleteDeployments)
  databaseCommand(selecting(remove.command('node'), 'node'))
    .alias('nodes')
    .description('forget a node whose agent has stopped and that owns nothing')
    .addOption(yesOption())
    .addOption(jsonOption('print [{node}] as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "select from mooring.forget_node('host-a');",
        'mooring drain host-a --wait, stop its agent, mooring delete node host-a',
      ),
    )
    .action(deleteNodes)
}

async function deleteDeployments(named: string[], options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedDeployments(db, named, options)
    await confirmFound('delete', 'deployment', rows.map(calledBy), options)
    const deleted = new Set(
      (await db.deleteDeployments(rows.map(({ id }) => id))).map(({ id }) => id),
    )
    if (options.wait) {
      const say = options.json ? () => {} : print
      await watchStopping(db, [...deleted], { say, signal: stopSignal() })
    }
    const stopping = new Map<string, number>()
    for (const { deployment_id } of await db.assignments({ deployments: [...deleted] }))
      stopping.set(deployment_id, (stopping.get(deployment_id) ?? 0) + 1)
    const done = rows.filter(({ id }) => deleted.has(id))
    if (options.json)
      return print(
        json(done.map(({ id, name }) => ({ id, name, stopping: stopping.get(id) ?? 0 }))),
      )
    const text = (row: DeploymentRow): string => {
      const left = stopping.get(row.id)
      const events = `\`mooring events -f --deployment ${row.id}\``
      return `${calledBy(row)} is deleted${left ? `; ${left} still to stop: ${events}` : ''}`
    }
    print(done.map(text).join('\n') || 'another session has deleted it')
  })
}

async function deleteNodes(named: string[], options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await selectedNodes(db, named, options)
    const names = rows.map(({ node }) => node)
    await confirmFound('delete', 'node', names, options)
    for (const node of names) {
      await db.forgetNode(node)
      if (!options.json) print(`${node} is forgotten`)
    }
    if (options.json) print(json(names.map((node) => ({ node }))))
  })
}
