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
  containment?: string
  handover?: boolean
  keepLogs?: number | null
  keepPackages?: number | null
  keepWork?: number | null
  logLevel: string
  stopOnStdinEnd?: boolean
}

export function addAgent(program: Command): void {
  databaseCommand(program.command('agent'))
    .description('run the agent of this host: it starts and stops what is placed here')
    .option('--name <name>', 'name of the node (default: the name of the host)')
    .option(
      '--trust <regexp>',
      'which packages run here, matched against name@version; without it none do',
    )
    .option('--allow-exec', 'deployments may bring a command of their own')
    .option('--allow-scripts', 'packages may run their install scripts')
    .option(
      '--label <key=value>',
      'label for selectors, may be repeated; given once, they replace the labels of the node',
      collectLabel,
    )
    .option('--max-assignments <n>', 'at most so many assignments here', parseCount)
    .option('--agent-base-url <url>', 'where this agent can be reached')
    .option('--gateway-base-url <url>', 'where what runs here can be reached')
    .addOption(
      new Option(
        '--containment <level>',
        'at most this much (default: the best this host has)',
      ).choices([...CONTAINMENT_LEVELS]),
    )
    .option(
      '--handover',
      'take over from the agent of this name that runs on this host: it ends, what it runs goes on',
    )
    .option(
      '--keep-logs <duration>',
      'how long the log of an assignment is kept after its end here: 12h, 30d, 0 or forever (default: 7d)',
      parseKeep,
    )
    .option(
      '--keep-packages <duration>',
      'how long an installed version is kept that nothing here needs any more (default: 7d)',
      parseKeep,
    )
    .option(
      '--keep-work <duration>',
      'how long what a command left in its work folder is kept after its end here (default: forever)',
      parseKeep,
    )
    .addOption(logLevelOption())
    .addOption(stopOnStdinEndOption())
    .addHelpText(
      'after',
      `
SIGTERM or Ctrl-C stops everything this agent runs, gives it back for other nodes, and exits 0. A second signal kills it all at once.
SIGUSR2 ends the agent alone: what it runs goes on for the next agent of this name on this host, which has until the leases end to come.

  mooring agent --name host-a --trust '^http-server@'`,
    )
    .action(runAgent)
}

async function runAgent(options: AgentOptions): Promise<void> {
  const [
    { parseAgentConfig, AgentConfigError },
    { createAgent },
    { databaseUrlOf, requireSchemaIfReachable },
    { createLog },
    { untilStopped },
  ] = await Promise.all([
    import('../../agent/config.js'),
    import('../../agent/agent.js'),
    import('../database.js'),
    import('../log.js'),
    import('../signals.js'),
  ])
  const databaseUrl = await databaseUrlOf(options)
  const { logLevel, stopOnStdinEnd, label, handover, keepLogs, keepPackages, keepWork, ...rest } =
    options
  let config
  try {
    config = parseAgentConfig({
      ...rest,
      databaseUrl,
      labels: label ?? null,
      handOver: handover === true,
      keepLogsMs: keepLogs,
      keepPackagesMs: keepPackages,
      keepWorkMs: keepWork,
    })
  } catch (error) {
    throw error instanceof AgentConfigError
      ? new UsageError(error.message, '`mooring agent --help` shows what can be said')
      : error
  }
  await requireSchemaIfReachable(databaseUrl)
  const agent = createAgent(config, { log: createLog(logLevel) })
  process.on('SIGUSR2', () => void agent.handOver())
  const stopped = untilStopped(agent, { done: agent.done, stopOnStdinEnd: stopOnStdinEnd === true })
  await Promise.all([agent.start(), stopped])
}
