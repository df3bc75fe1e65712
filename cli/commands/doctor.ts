import type { Command } from 'commander'
import { answerWithin } from '../../postgres/deadline.js'
import { committedMigrations } from '../../postgres/migrate/committed-migrations.js'
import { connect, databaseUrlOf } from '../database.js'
import type { Finding, Level } from '../queries/rows.js'
import { examine } from '../doctor/client-checks.js'
import { EXIT_FAILED } from '../errors.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { colors, counted, printable } from '../terminal/text.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'

/** For all its queries, which take seconds in a large fleet on a busy server. */
const PATIENCE_MS = 60_000

export function addDoctor(program: Command): void {
  databaseCommand(program.command('doctor'))
    .description('check the fleet and the database, and show what to type')
    .addOption(
      jsonOption('print {check_name, level, found, way_out} for each check as a JSON array'),
    )
    .addHelpText(
      'after',
      `
One line for each check: ok, warning or problem, what was found, and after ->
the next thing to type. Exit code 1 when there is a problem. All checks but the
first five come from the database; in psql: select * from mooring.doctor();

Example:
  mooring doctor --json | jq -r '.[] | select(.level != "ok") | .way_out'`,
    )
    .action(doctor)
}

async function doctor(options: DatabaseOptions & JsonOptions): Promise<void> {
  const url = await databaseUrlOf(options)
  const sql = await connect(url, PATIENCE_MS)
  try {
    const findings = await answerWithin(
      PATIENCE_MS,
      examine({ sql, url, knownSchema: committedMigrations().length }),
    )
    print(options.json ? json(findings) : `${findings.map(line).join('\n')}\n${summary(findings)}`)
    if (findings.some(({ level }) => level === 'problem')) process.exitCode = EXIT_FAILED
  } finally {
    await sql.end({ timeout: 1 })
  }
}

const PAINT: Record<Level, (text: string) => string> = {
  ok: colors.green,
  warning: colors.yellow,
  problem: colors.red,
}

function line({ check_name, level, found, way_out }: Finding): string {
  const next = way_out === null ? '' : `  -> ${colors.cyan(printable(way_out))}`
  return `${PAINT[level](level.padEnd(8))} ${check_name.padEnd(21)} ${printable(found)}${next}`
}

function summary(findings: readonly Finding[]): string {
  const count = (wanted: Level): number => findings.filter(({ level }) => level === wanted).length
  const counts = [
    `${count('ok')} ok`,
    counted(count('warning'), 'warning'),
    counted(count('problem'), 'problem'),
  ]
  return `${counted(findings.length, 'check')}: ${counts.join(', ')}`
}
