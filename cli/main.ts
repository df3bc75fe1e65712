#!/usr/bin/env node
import { Command, CommanderError, Option } from 'commander'
import { packageVersion } from '../host/package-version.js'
import { addAgent } from './commands/agent.js'
import { addApply } from './commands/apply.js'
import { addCompletion } from './commands/completion.js'
import { addDb } from './commands/db.js'
import { addDelete } from './commands/delete.js'
import { addDescribe } from './commands/describe.js'
import { addDoctor } from './commands/doctor.js'
import { addDrain } from './commands/drain.js'
import { addCordon, addDisable, addEnable } from './commands/enable.js'
import { addEvents } from './commands/events.js'
import { addExplain } from './commands/explain.js'
import { addGet } from './commands/get.js'
import { addHistory } from './commands/history.js'
import { addLogs } from './commands/logs.js'
import { addMetrics } from './commands/metrics.js'
import { addMigrate } from './commands/migrate.js'
import { addPsql } from './commands/psql.js'
import { addReassign } from './commands/reassign.js'
import { addRebalance } from './commands/rebalance.js'
import { addRestart } from './commands/restart.js'
import { addResumeReaping } from './commands/resume-reaping.js'
import { addRole } from './commands/role.js'
import { addScale } from './commands/scale.js'
import { addSet } from './commands/set.js'
import { addShow } from './commands/show.js'
import { addSimulate } from './commands/simulate.js'
import { addStatus } from './commands/status.js'
import { addHold } from './commands/hold.js'
import { addUndrain } from './commands/undrain.js'
import { addUninstall } from './commands/uninstall.js'
import { addUp } from './commands/up.js'
import { addUpGuard } from './commands/up-guard.js'
import { addWorker } from './commands/worker.js'
import {
  EXIT_DONE,
  EXIT_FAILED,
  EXIT_USAGE,
  problemOf,
  renderProblem,
  withoutSecrets,
} from './errors.js'
import { exitWhenWritten, watchOutput } from './terminal/stdout.js'
import { showWholeTables } from './terminal/table.js'

/** They hold processes. A failure of their output does not end them. */
const GOES_ON = new Set(['up', 'up-guard', 'worker', 'agent'])

const program = new Command('mooring')
  .description(
    'Places long-running processes on hosts and brings them back when a host dies, ' +
      'with nothing but Postgres as its control plane.',
  )
  .version(packageVersion())
  .option('--debug', 'show the stack trace of an error')
  // `mooring psql -c ...`: options after the name of a command belong to the command
  .enablePositionalOptions()
  // the names of commands leave less than the default of 40 columns for their descriptions
  .configureHelp({ minWidthToWrap: 25 })
  .exitOverride()
  // with --json exitCodeOf reports the error
  .configureOutput({
    writeErr: (text) => {
      if (!asksForJson()) process.stderr.write(text)
    },
  })
  .showHelpAfterError('(`mooring --help` lists the commands)')
  .addHelpText(
    'after',
    `
Begin with:
  mooring up --demo    everything on this machine, with something to run
  mooring psql         insert into deployment (package_name) values ('http-server')

Database: DATABASE_URL, else an embedded server in ./.mooring.
Exit codes: 0 done, 1 failed, 2 bad usage.`,
  )

// the order of the help
for (const add of [
  addUp,
  addStatus,
  addDoctor,
  addGet,
  addDescribe,
  addExplain,
  addEvents,
  addHistory,
  addLogs,
  addApply,
  addEnable,
  addDisable,
  addScale,
  addRestart,
  addDelete,
  addSet,
  addDrain,
  addUndrain,
  addHold,
  addReassign,
  addRebalance,
  addSimulate,
  addResumeReaping,
  addMetrics,
  addPsql,
  addRole,
  addDb,
  addMigrate,
  addUninstall,
  addWorker,
  addAgent,
  addShow,
  addCompletion,
  addCordon,
  addVersion,
  addUpGuard,
])
  add(program)
for (const command of allCommands(program)) {
  // `mooring describe host-a` is answered with the kinds there are
  const kinds = command.commands.map((kind) => `\`${fullName(kind as Command)}\``)
  const verb = kinds.length > 1 ? 'are' : 'is'
  const there = kinds.length > 0 ? `there ${verb} ${kinds.join(', ')}; ` : ''
  if (/^deployments?$/.test(command.name())) command.alias('deploy').alias('dep')
  if (command.options.some(({ long }) => long === '--json')) addOutput(command)
  command
    .option('--debug', 'show the stack trace of an error')
    .showHelpAfterError(`(${there}\`${fullName(command)} --help\` lists the options)`)
}

// When a connection ends inside sql.begin(), the driver writes the rollback to the closed socket.
// It does so in a callback whose error cannot be caught elsewhere.
process.on('uncaughtException', (error) => {
  if (error instanceof TypeError && /node_modules\/postgres\//.test(error.stack ?? ''))
    process.exit(exitCodeOf(Object.assign(error, { code: 'CONNECTION_CLOSED' })))
  process.stderr.write(`${withoutSecrets(error.stack ?? String(error))}\n`)
  process.exit(EXIT_FAILED)
})

let running: Command = program
program.hook('preAction', (_program, action) => {
  running = action
  if (action.opts<{ wide?: boolean }>().wide) showWholeTables()
})

watchOutput((error) => {
  if (!goesOn()) process.exit(exitCodeOf(error))
})

let exitCode: number | undefined
try {
  await program.parseAsync()
} catch (error) {
  exitCode = exitCodeOf(error)
}
await exitWhenWritten(exitCode, goesOn())

function addVersion(program: Command): void {
  program
    .command('version', { hidden: true })
    .description('the same as `mooring --version`')
    .action(() => void process.stdout.write(`${packageVersion()}\n`))
}

/** `-o json` is what other tools call it. It is not in the help, because --json is. */
function addOutput(command: Command): void {
  command
    .addOption(new Option('-o, --output <format>').choices(['json']).hideHelp())
    .on('option:output', () => command.setOptionValue('json', true))
}

function goesOn(): boolean {
  return running.parent === program && GOES_ON.has(running.name())
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) {
    // commander has printed its message
    if (error.exitCode === 0) return EXIT_DONE
    if (asksForJson())
      process.stderr.write(
        renderProblem(
          {
            message:
              error.code === 'commander.help'
                ? 'which command?'
                : withoutSecrets(error.message.replace(/^error: /, '')),
            hint: '`mooring --help` lists the commands',
            exitCode: EXIT_USAGE,
          },
          true,
        ),
      )
    return EXIT_USAGE
  }
  const options = running.optsWithGlobals<{ json?: boolean; debug?: boolean }>()
  const problem = problemOf(error)
  process.stderr.write(renderProblem(problem, options.json === true || asksForJson()))
  if (options.debug && error instanceof Error)
    process.stderr.write(`${withoutSecrets(error.stack ?? '')}\n`)
  return problem.exitCode
}

/** Works also for a command line that could not be parsed. */
function asksForJson(): boolean {
  const args = process.argv.slice(2)
  const before = args.slice(0, args.includes('--') ? args.indexOf('--') : undefined)
  return / (--json|-o ?json|--output[ =]json)( |$)/.test(` ${before.join(' ')}`)
}

function allCommands(parent: Command): Command[] {
  return parent.commands.flatMap((command) => [
    command as Command,
    ...allCommands(command as Command),
  ])
}

function fullName(command: Command): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name()
}
