import type { Command } from 'commander'
import { UsageError } from '../errors.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'

interface UpOptions extends DatabaseOptions, JsonOptions {
  demo?: boolean
  trust: string
  allowExec?: boolean
  allowScripts?: boolean
}

export function addUp(program: Command): void {
  databaseCommand(program.command('up'))
    .description(
      'run everything in this terminal: database, worker, and the agents host-a and host-b',
    )
    .option('--demo', 'at the first start, insert 21 deployments of http-server')
    .option(
      '--trust <regexp>',
      'what the two agents run, matched against name@version',
      '^http-server@',
    )
    .option('--allow-exec', 'deployments may bring a command of their own')
    .option('--allow-scripts', 'packages may run their install scripts')
    .addOption(jsonOption('print one JSON object per change'))
    .addHelpText(
      'after',
      `
A terminal shows a live table, a pipe one line per change. Ctrl-C stops all that was started: first the agents with what they run, then the
worker, then the server; the data stays and the next \`mooring up\` goes on with it. A second Ctrl-C does not wait for anybody.`,
    )
    .action(async (options: UpOptions) => {
      const [{ trustProblem }, { runUp }] = await Promise.all([
        import('../../syntax/trust-pattern.js'),
        import('../up/up.js'),
      ])
      const problem = trustProblem(options.trust)
      if (problem)
        throw new UsageError(
          `--trust: ${problem}`,
          "it is matched against name@version, such as '^http-server@'",
        )
      await runUp(options)
    })
}
