import type { Command } from 'commander'
import { databaseCommand, logLevelOption, parseCount, stopOnStdinEndOption } from '../options.js'
import type { DatabaseOptions } from '../options.js'

interface WorkerOptions extends DatabaseOptions {
  concurrency?: number
  logLevel: string
  stopOnStdinEnd?: boolean
}

export function addWorker(program: Command): void {
  databaseCommand(program.command('worker'))
    .description('run a worker, which places waiting assignments and reaps lost nodes')
    .option('--concurrency <n>', 'jobs at once', parseCount)
    .addOption(logLevelOption())
    .addOption(stopOnStdinEndOption())
    .addHelpText(
      'after',
      `
Any number of workers may run, on any hosts. Without any the agents do the
rounds themselves, only later.`,
    )
    .action(runWorker)
}

async function runWorker(options: WorkerOptions): Promise<void> {
  const [
    { createWorker },
    { databaseUrlOf, requireSchemaIfReachable },
    { createLog },
    { untilStopped },
  ] = await Promise.all([
    import('../../workers/runner.js'),
    import('../database.js'),
    import('../log.js'),
    import('../signals.js'),
  ])
  const databaseUrl = await databaseUrlOf(options)
  await requireSchemaIfReachable(databaseUrl)
  const worker = createWorker({
    databaseUrl,
    log: createLog(options.logLevel),
    ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
  })
  worker.start()
  await untilStopped(worker, { stopOnStdinEnd: options.stopOnStdinEnd === true })
}
