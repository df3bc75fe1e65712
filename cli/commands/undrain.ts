import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

export function addUndrain(program: Command): void {
  databaseCommand(program.command('undrain'))
    .description('end the drain of a node and open it for new work; moves under way are completed')
    .argument('<node>')
    .addOption(jsonOption('print {node, draining, enabled} as JSON'))
    .action(async (node: string, options: DatabaseOptions & JsonOptions) => {
      await withDb(options, async (db) => {
        const readNode = async () => (await db.nodes()).find((row) => row.node === node)
        const before = await readNode()
        await db.undrainNode(node)
        const { draining = false, enabled = true } = (await readNode()) ?? {}
        print(
          options.json
            ? json({ node, draining, enabled })
            : undrainText(node, before?.draining === true, enabled),
        )
      })
    })
}

function undrainText(node: string, wasDraining: boolean, enabled: boolean): string {
  if (enabled) return wasDraining ? `${node} takes new work again` : `${node} was not draining`
  const drain = wasDraining ? 'is no longer draining, but' : 'was not draining, and'
  return `${node} ${drain} is disabled: \`mooring enable node ${node}\``
}
