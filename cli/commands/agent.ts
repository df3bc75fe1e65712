import type { Command } from 'commander'
import { collectLabel, databaseCommand, logLevelOption, parseCount, stopOnStdinEndOption } from '../options.js'
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
  logLevel: string
  stopOnStdinEnd?: boolean
}

export function addAgent(program: Command): void {
  databaseCommand(program.command('agent'))
    .description('run the agent of this host: it starts and stops what is placed here')
    .option('--name <name>', 'name of the node (default: the name of the host)')
    .option('--trust <regexp>', 'which packages run here, matched against name@version; without it none do')
    .option('--allow-exec', 'deployments may bring a command of their own')
    .option('--allow-scripts', 'packages may run their install scripts')
    .option('--label <key=value>', 'label for selectors, may be repeated; given once, they replace the labels of the node', collectLabel)
    .option('--max-assignments <n>', 'at most so many assignments here', parseCount)
    .option('--agent-base-url <url>', 'where this agent can be reached')
    .option('--gateway-base-url <url>', 'where what runs here can be reached')
    .addOption(logLevelOption())
    .addOption(stopOnStdinEndOption())
    .addHelpText('after', `
SIGTERM or Ctrl-C stops everything this agent runs, gives it back for other nodes, and exits 0. A second signal kills it all at once.

  mooring agent --name host-a --trust '^http-server@'`)
    .action(runAgent)
}

async function runAgent(options: AgentOptions): Promise<void> {
  const [{ parseAgentConfig, AgentConfigError }, { createAgent }, { databaseUrlOf, requireSchemaIfReachable }, { createLog }, { untilStopped }] = await Promise.all([
    import('../../agent/config.js'), import('../../agent/agent.js'), import('../database.js'), import('../log.js'), import('../until-stopped.js'),
  ])
  const databaseUrl = await databaseUrlOf(options)
  const { logLevel, stopOnStdinEnd, label, ...rest } = options
  let config
  try {
    config = parseAgentConfig({ ...rest, databaseUrl, labels: label ?? null })
  } catch (error) {
    throw error instanceof AgentConfigError ? new UsageError(error.message, '`mooring agent --help` shows what can be said') : error
  }
  await requireSchemaIfReachable(databaseUrl)
  const agent = createAgent(config, { log: createLog(logLevel) })
  const stopped = untilStopped(agent, { done: agent.done, stopOnStdinEnd: stopOnStdinEnd === true })
  await Promise.all([agent.start(), stopped])
}
