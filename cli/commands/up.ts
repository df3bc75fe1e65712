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
      'packages the two agents may run, matched against name@version',
      '^http-server@',
    )
    .option('--allow-exec', 'allow deployments with a command of their own')
    .option('--allow-scripts', 'allow install scripts of packages')
    .addOption(jsonOption('print one JSON object per change'))
    .addHelpText(
      'after',
      `
A terminal shows a live table, a pipe one line for each change. Ctrl-C stops the
agents with what they run, then the worker, then the server. The data stays, and
the next \`mooring up\` continues with it. A second Ctrl-C kills all at once.`,
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
