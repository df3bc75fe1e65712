import { Option } from 'commander'
import type { Command } from 'commander'
import { CONTAINMENT_LEVELS } from '../../agent/warden/containment.js'
import {
  collectLabel,
  databaseCommand,
  logLevelOption,
  parseCount,
  parseKeep,
  stopOnStdinEndOption,
} from '../options.js'
import type { DatabaseOptions } from '../options.js'
import { UsageError } from '../errors.js'

interface AgentOptions extends DatabaseOptions {
  name?: string
  trust?: string
  allowExec?: boolean
  allowScripts?: boolean
  label?: Record<string, string>
  maxAssignments?: number
  agentBaseUrl?: string
  gatewayBaseUrl?: string
  workloadUser?: string
  containment?: string
  handover?: boolean
  keepLogs?: number | null
  keepPackages?: number | null
  keepWork?: number | null
  logLevel: string
  stopOnStdinEnd?: boolean
}

export function addAgent(program: Command): void {
  databaseCommand(program.command('agent'), { agentFiles: true })
    .description('run the agent of this host, which starts and stops the instances placed here')
    .option('--name <name>', 'name of the node (default: the name of the host)')
    .option(
      '--trust <regexp>',
      'packages that may run here, matched against name@version (default: none)',
    )
    .option('--allow-exec', 'allow deployments with a command of their own')
    .option('--allow-scripts', 'allow install scripts of packages')
    .option(
      '--label <key=value>',
      'label for selectors; repeatable; replaces all labels of the node',
      collectLabel,
    )
    .option('--max-assignments <n>', 'at most so many assignments on this node', parseCount)
    .option('--agent-base-url <url>', 'address of this agent')
    .option('--gateway-base-url <url>', 'address of the workloads on this node')
    .option(
      '--workload-user <name>',
      'user that workloads run as; an agent of root needs it (default: its own user)',
    )
    .addOption(
      new Option(
        '--containment <level>',
        'upper limit of containment (default: the best this host has)',
      ).choices([...CONTAINMENT_LEVELS]),
    )
    .option(
      '--handover',
      'take over from the running agent of this name on this host; its workloads run on',
    )
    .option(
      '--keep-logs <duration>',
      'retention of logs after an assignment ends: 12h, 30d, 0 or forever (default: 7d)',
      parseKeep,
    )
    .option(
      '--keep-packages <duration>',
      'retention of unused package versions (default: 7d)',
      parseKeep,
    )
    .option(
      '--keep-work <duration>',
      'retention of work folders of ended commands (default: forever)',
      parseKeep,
    )
    .addOption(logLevelOption())
    .addOption(stopOnStdinEndOption())
    .addHelpText(
      'after',
      `
SIGTERM or Ctrl-C stops all workloads of this agent, releases them for other
nodes, and exits 0. A second signal kills them at once.
SIGUSR2 ends the agent alone. Its workloads run on until their leases end, for
the next agent of this name on this host to take over.

  mooring agent --name host-a --trust '^http-server@'`,
    )
    .action(runAgent)
}

async function runAgent(options: AgentOptions): Promise<void> {
  const [
    { parseAgentConfig, AgentConfigError },
    { createAgent },
    { WorkloadUserError },
    { databaseUrlOf, requireSchemaIfReachable },
    { createLog },
    { localUser },
    { untilStopped },
  ] = await Promise.all([
    import('../../agent/config.js'),
    import('../../agent/agent.js'),
    import('../../agent/workload-user.js'),
    import('../database.js'),
    import('../log.js'),
    import('../local-user.js'),
    import('../signals.js'),
  ])
  const databaseUrl = await databaseUrlOf(options)
  const {
    logLevel,
    stopOnStdinEnd,
    label,
    handover,
    keepLogs,
    keepPackages,
    keepWork,
    workloadUser,
    ...rest
  } = options
  // as for the agents of `mooring up`, whose database this one joins
  const byDefault = process.env['DATABASE_URL'] ? null : localUser(options.stateDir).user
  let config
  try {
    config = parseAgentConfig({
      ...rest,
      databaseUrl,
      workloadUser: workloadUser ?? byDefault,
      labels: label ?? null,
      handOver: handover === true,
      keepLogsMs: keepLogs,
      keepPackagesMs: keepPackages,
      keepWorkMs: keepWork,
    })
  } catch (error) {
    throw error instanceof AgentConfigError
      ? new UsageError(error.message, '`mooring agent --help` lists the options')
      : error
  }
  await requireSchemaIfReachable(databaseUrl)
  const agent = createAgent(config, { log: createLog(logLevel) })
  process.on('SIGUSR2', () => void agent.handOver())
  const stopped = untilStopped(agent, { done: agent.done, stopOnStdinEnd: stopOnStdinEnd === true })
  await Promise.all([agent.start(), stopped]).catch((error: unknown) => {
    throw error instanceof WorkloadUserError ? new UsageError(error.message) : error
  })
}
