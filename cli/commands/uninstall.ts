import type { Command } from 'commander'
import type { UninstallPlan } from '../../postgres/migrate/uninstall.js'
import { databaseUrlOf } from '../database.js'
import { databaseCommand, jsonOption, yesOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { confirm } from '../terminal/confirm.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { uninstallText } from '../terminal/migrate-text.js'

type Options = DatabaseOptions & JsonOptions & { yes?: boolean; roles?: boolean }

export function addUninstall(program: Command): void {
  databaseCommand(program.command('uninstall'))
    .description('take everything of Mooring out of the database again')
    .option('--roles', 'drop the four roles of the cluster too')
    .addOption(yesOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
One transaction. It refuses while agents or workers live, and where an object
of the application depends on one of Mooring. Dump what you want to keep first.`,
    )
    .action(runUninstall)
}

async function runUninstall(options: Options): Promise<void> {
  const databaseUrl = await databaseUrlOf(options)
  const { uninstall } = await import('../../postgres/migrate/uninstall.js')
  const note = (text: string): void => void process.stderr.write(`${text}\n`)
  const plan = await uninstall({
    databaseUrl,
    roles: options.roles === true,
    log: note,
    confirm: async (plan: UninstallPlan) => {
      if (!options.json) note(uninstallText(plan))
      await confirm('uninstall Mooring from', [plan.database], options)
    },
  })
  if (options.json) return print(json(plan))
  print(
    plan ? `Mooring is gone from ${plan.database}` : 'nothing to do: Mooring is not installed here',
  )
}
