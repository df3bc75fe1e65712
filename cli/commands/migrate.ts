import type { Command } from 'commander'
import { databaseUrlOf } from '../database.js'
import { parseDatabaseUrl } from '../../postgres/database-url.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { migrateText } from '../terminal/migrate-text.js'

export function addMigrate(program: Command): void {
  databaseCommand(program.command('migrate'))
    .description('bring the database to the schema of this program')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Harmless to repeat, also while agents run and other hosts migrate. It waits
500 ms for a lock at most, then tries again, so it blocks no other session.`,
    )
    .action(runMigrate)
}

async function runMigrate(options: DatabaseOptions & JsonOptions): Promise<void> {
  const databaseUrl = await databaseUrlOf(options)
  const { migrate } = await import('../../postgres/migrate/migrate.js')
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      stop.abort(new Error(`stopped by ${signal}; uncommitted changes are rolled back`))
    })
  const result = await migrate({
    databaseUrl,
    signal: stop.signal,
    log: (text) => process.stderr.write(`${text}\n`),
  })
  print(options.json ? json(result) : migrateText(result, parseDatabaseUrl(databaseUrl).database))
}
