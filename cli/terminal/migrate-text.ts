import type { MigrateResult } from '../../postgres/migrate/result.js'

/** The result of a migration, for people. */
export function migrateText(result: MigrateResult, database: string): string {
  const lines = [
    result.applied.length > 0
      ? `migrated ${database}: ran ${result.applied.join(', ')}`
      : `nothing to do: ${database} is at ${result.version}`,
  ]
  if (result.searchPath === 'set')
    lines.push(
      'mooring was appended to the search_path of the database: ' +
        'in new sessions psql finds the tables by their plain names',
    )
  if (result.searchPathLine)
    lines.push(`to use the tables by their plain names, run: ${result.searchPathLine}`)
  for (const problem of result.roleProblems) lines.push(`roles: ${problem}`)
  return lines.join('\n')
}
