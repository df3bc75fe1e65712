import { spawn } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Command } from 'commander'
import { databaseUrlOf } from '../database.js'
import { CommandError, UsageError } from '../errors.js'
import { databaseCommand } from '../options.js'
import type { DatabaseOptions } from '../options.js'

export function addPsql(program: Command): void {
  databaseCommand(program.command('psql'))
    .description("open psql on Mooring's database; further arguments go to psql")
    .argument('[arguments...]', "arguments of psql, such as -c 'select * from mooring.placement'")
    .allowUnknownOption()
    .passThroughOptions()
    .addHelpText(
      'after',
      `
psql is looked for in PATH and $PGBINDIR. Without it Mooring itself runs -c, -f
and SQL on stdin.`,
    )
    .action(openPsql)
}

async function openPsql(args: string[], options: DatabaseOptions): Promise<void> {
  const url = await databaseUrlOf(options)
  const program = findPsql(process.env)
  if (program) return run(program, args, url)
  const { runScript } = await import('../queries/sql-script.js')
  const script = scriptOf(args)
  if (script === null) {
    throw new CommandError(
      'psql is not installed on this machine, and the embedded server comes without it',
      'install the client (Debian: apt-get install postgresql-client), ' +
        "or type the statement: `mooring psql -c 'select * from mooring.fleet'`; " +
        'any other client works with the address of `mooring db url`',
    )
  }
  await runScript(url, script, (text) => process.stdout.write(text))
}

async function run(program: string, args: readonly string[], url: string): Promise<void> {
  const { parseDatabaseUrl } = await import('../../postgres/database-url.js')
  const { password } = parseDatabaseUrl(url)
  // all users of the host can read a command line, so the password is in the environment
  const child = spawn(program, [withoutPassword(url), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...(password === undefined ? {} : { PGPASSWORD: password }) },
  })
  const ignore = () => {} // psql handles Ctrl-C: it cancels a query, and the session goes on
  process.on('SIGINT', ignore)
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (status) => {
      resolve(status ?? 1)
    })
  })
  process.removeListener('SIGINT', ignore)
  if (code !== 0) process.exitCode = 1
}

/** Removes the password before the @. parseDatabaseUrl has refused one in any other place. */
export function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^:/@]*):[^@]*@/, '$1@')
}

function findPsql(env: NodeJS.ProcessEnv): string | null {
  const folders = [...(env['PATH'] ?? '').split(delimiter), env['PGBINDIR'] ?? '']
  return (
    folders
      .filter(Boolean)
      .map((folder) => join(folder, 'psql'))
      .find(isExecutable) ?? null
  )
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The texts of -c and -f in order, else of stdin. Null when stdin is a terminal. */
function scriptOf(args: readonly string[]): string[] | null {
  const script: string[] = []
  for (let i = 0; i < args.length; i++) {
    const [, flag, inline] = /^(-c|-f|--command|--file)(?:=?(.+))?$/s.exec(args[i]!) ?? []
    const value = flag ? (inline ?? args[++i]) : undefined
    if (!flag || value === undefined)
      throw new UsageError(
        `without psql only -c and -f are possible, not ${args[i] ?? 'nothing after them'}`,
        'install the client (Debian: apt-get install postgresql-client)',
      )
    script.push(
      flag === '-c' || flag === '--command'
        ? value
        : readFileSync(value === '-' ? 0 : value, 'utf8'),
    )
  }
  if (script.length > 0) return script
  return process.stdin.isTTY ? null : [readFileSync(0, 'utf8')]
}
