import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json, print } from '../render.js'

export function addUndrain(program: Command): void {
  databaseCommand(program.command('undrain'))
    .description('end the drain of a node and open it for new work; what has begun to stop goes where it was to go')
    .argument('<node>')
    .addOption(jsonOption('print {node, draining} as JSON'))
    .action(async (node: string, options: DatabaseOptions & JsonOptions) => {
      await withDb(options, async (db) => {
        await db.undrainNode(node)
        print(options.json ? json({ node, draining: false }) : `${node} takes new work again`)
      })
    })
}
