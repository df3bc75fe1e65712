import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption, parseAssignmentId } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

export function addReassign(program: Command): void {
  databaseCommand(program.command('reassign'))
    .description(
      'move an assignment to a node: stop it, then start it there (start-first: reversed)',
    )
    .argument('<assignment>', 'its id, as in the view mooring.placement')
    .argument('<node>')
    .addOption(jsonOption('print {id, wanted, node, move_to, epoch, handover} as JSON'))
    .action(reassign)
}

async function reassign(
  assignment: string,
  node: string,
  options: DatabaseOptions & JsonOptions,
): Promise<void> {
  await withDb(options, async (db) => {
    const row = await db.reassign(parseAssignmentId(assignment), node)
    if (options.json) return print(json(row))
    if (row.handover === 'arriving')
      return print(
        `assignment ${row.id} starts on ${row.node} ` +
          `and takes over from ${assignment} when it runs: \`mooring events -f\``,
      )
    print(
      row.move_to === null
        ? `assignment ${row.id} is on ${row.node} now`
        : `assignment ${row.id} stops on ${row.node} ` +
            `and goes to ${row.move_to} when it has ended: \`mooring events -f\``,
    )
  })
}
