import type { Command } from 'commander'
import { print } from '../terminal/stdout.js'
import { UNITS, unitFile } from '../terminal/unit-file.js'
import type { Unit } from '../terminal/unit-file.js'

export function addShow(program: Command): void {
  const unit = program
    .command('show')
    .description('print a file for this host')
    .command('unit')
    .description('print a unit for systemd; it starts this very program')
  for (const name of UNITS)
    unit
      .command(name)
      .description(
        name === 'agent'
          ? 'runs as root, with workloads as --user'
          : 'runs as --user, beside the agents or anywhere else',
      )
      .argument('[options...]', `options of \`mooring ${name}\`, after --`)
      .option('--user <name>', 'user of the system', 'mooring')
      .addHelpText(
        'after',
        `
DATABASE_URL stands in /etc/mooring/mooring.env, which only root should read.
Example: ${EXAMPLES[name]}`,
      )
      .action((options: string[], { user }: { user: string }) => {
        print(unitFile(name, { node: process.execPath, script: SCRIPT, user, options }).trimEnd())
      })
}

/** As it was called, so that a link that an upgrade moves stays a link. */
const SCRIPT = process.argv[1] ?? 'mooring'

const EXAMPLES: Record<Unit, string> = {
  agent: "mooring show unit agent -- --name host-a --trust '^http-server@'",
  worker: 'mooring show unit worker',
}
