import type { Command } from 'commander'
import { databaseUrlOf } from '../database.js'
import { parseDatabaseUrl } from '../../postgres/database-url.js'
import { CommandError } from '../errors.js'
import { jsonOption, stateDirOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

type DbOptions = DatabaseOptions & JsonOptions

export function addDb(program: Command): void {
  const db = program
    .command('db')
    .description('the embedded Postgres server of this state directory')
  const add = (
    name: string,
    description: string,
    action: (options: DbOptions) => Promise<void>,
  ) => {
    db.command(name)
      .description(description)
      .addOption(stateDirOption())
      .addOption(jsonOption())
      .action(action)
  }
  add('up', 'start it, after creating it where needed', up)
  add('down', 'stop it; the data stays', down)
  add('url', 'print the address of the database, with its password', printUrl)
  db.addHelpText(
    'after',
    '\nDATABASE_URL overrides the embedded server: `mooring db url` prints it,\n' +
      'and the embedded server is not touched.',
  )
}

async function up(options: DbOptions): Promise<void> {
  if (process.env['DATABASE_URL']) {
    const url = parseDatabaseUrl(await databaseUrlOf(options)).redacted
    return print(
      options.json
        ? json({ started: false, url })
        : `DATABASE_URL is set, so no server is started: ${url}`,
    )
  }
  const { ensureCluster } = await import('../../postgres/embedded/cluster.js')
  const cluster = await ensureCluster({
    stateDir: options.stateDir,
    log: (text) => process.stderr.write(`${text}\n`),
  })
  const url = parseDatabaseUrl(cluster.url).redacted
  if (options.json) return print(json({ started: cluster.started, url, data_dir: cluster.dataDir }))
  print(`${cluster.started ? 'started' : 'runs already'}: ${url}`)
  print(`data: ${cluster.dataDir}`)
  print('the address with its password: `mooring db url`')
}

async function down(options: DbOptions): Promise<void> {
  if (process.env['DATABASE_URL']) {
    throw new CommandError(
      'DATABASE_URL is set, and Mooring does not stop that server',
      'unset DATABASE_URL to stop the embedded one',
    )
  }
  const { stopCluster } = await import('../../postgres/embedded/cluster.js')
  const stopped = await stopCluster({ stateDir: options.stateDir })
  print(
    options.json
      ? json({ stopped })
      : stopped
        ? 'stopped; the data stays'
        : `no embedded server runs in ${options.stateDir}`,
  )
}

async function printUrl(options: DbOptions): Promise<void> {
  const url = await databaseUrlOf(options)
  print(options.json ? json({ url }) : url)
}
