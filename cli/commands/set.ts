import type { Command } from 'commander'
import { withDb } from '../database.js'
import { UsageError } from '../errors.js'
import {
  collectLabel,
  databaseCommand,
  jsonOption,
  parseCount,
  psqlAndExample,
} from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json } from '../terminal/json.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'

interface SetOptions extends DatabaseOptions, JsonOptions {
  weight?: number
  label?: Record<string, string>
  maxAssignments?: number
  agentUrl?: string
  gatewayUrl?: string
}

export function addSet(program: Command): void {
  const set = program
    .command('set')
    .description('add a node, or change its settings (deployments: mooring apply)')
  databaseCommand(set.command('node'))
    .description('add a node, or change its settings')
    .argument('<node>')
    .option('--weight <n>', 'capacity relative to 100', Number)
    .option('--label <key=value>', 'all its labels; repeatable', collectLabel)
    .option('--max-assignments <n>', 'at most so many, daemons not counted', parseCount)
    .option('--agent-url <url>', 'address of its agent')
    .option('--gateway-url <url>', 'address of its workloads')
    .addOption(jsonOption('print the row of mooring.node_status as JSON'))
    .addHelpText(
      'after',
      psqlAndExample(
        "select * from mooring.upsert_node('host-a', weight => 200);",
        'mooring set node host-a --weight 200 --label zone=a --label disk=ssd',
      ),
    )
    .action(setNode)
}

async function setNode(name: string, options: SetOptions): Promise<void> {
  const { weight, label, maxAssignments, agentUrl, gatewayUrl } = options
  if (weight !== undefined && !Number.isFinite(weight))
    throw new UsageError('--weight must be a number')
  await withDb(options, async (db) => {
    const isNew = !(await db.nodes()).some(({ node }) => node === name)
    const row = await db.upsertNode(name, {
      ...(weight === undefined ? {} : { weight }),
      ...(label ? { labels: label } : {}),
      ...(maxAssignments === undefined ? {} : { maxAssignments }),
      ...(agentUrl === undefined ? {} : { agentBaseUrl: agentUrl }),
      ...(gatewayUrl === undefined ? {} : { gatewayBaseUrl: gatewayUrl }),
    })
    // a misspelt name makes a node that no agent ever registers
    if (isNew)
      process.stderr.write(
        `${name} is new: no agent of this name has registered yet ` +
          `(\`mooring delete node ${name}\` removes it)\n`,
      )
    if (options.json) return print(json(row))
    print(
      table(
        [row],
        [
          'node',
          'health',
          'weight',
          'labels',
          'max_assignments',
          'agent_base_url',
          'gateway_base_url',
        ].map((key) => ({ key })),
      ),
    )
  })
}
