import type { Command } from 'commander'
import { withDb } from '../database.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

export function addResumeReaping(program: Command): void {
  databaseCommand(program.command('resume-reaping'))
    .description(
      'confirm that the silent nodes are dead, after reaping has paused for their number',
    )
    .addOption(jsonOption('print {resumed} as JSON'))
    .action(resumeReaping)
}

async function resumeReaping(options: DatabaseOptions & JsonOptions): Promise<void> {
  await withDb(options, async (db) => {
    const resumed = await db.resumeReaping()
    if (options.json) return print(json({ resumed }))
    print(resumed ? 'reaping is resumed for this outage' : 'reaping was not paused')
  })
}
