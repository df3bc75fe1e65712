import type { MigrateResult } from '../../postgres/migrate/result.js'
import type { UninstallPlan } from '../../postgres/migrate/uninstall.js'
import { counted } from './text.js'

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

/** What an uninstall takes away, for people. */
export function uninstallText(plan: UninstallPlan): string {
  const lines = [
    `from ${plan.database} goes:`,
    `  schemas ${plan.schemas.join(', ')}: ${counted(plan.tables, 'table')}, ` +
      `${counted(plan.functions, 'function')}, and what else was put into them`,
    `  ${counted(plan.deployments, 'deployment')}, ${counted(plan.events, 'event')}`,
  ]
  if (plan.searchPathLine && plan.searchPath !== 'left') lines.push(`  ${plan.searchPathLine}`)
  if (plan.roles.length > 0) lines.push(`  roles of the cluster: ${plan.roles.join(', ')}`)
  if (plan.searchPath === 'left')
    lines.push(`the owner of the database must run: ${plan.searchPathLine ?? ''}`)
  if (plan.rolesLeft.length > 0)
    lines.push(`these roles of the cluster stay (see --roles): ${plan.rolesLeft.join(', ')}`)
  if (plan.mayStillRun.length > 0)
    lines.push(
      `work with on_lost keep may still run on silent nodes: ${plan.mayStillRun.join(', ')}; ` +
        'stop their agents there',
    )
  return lines.join('\n')
}
