import type { Command } from 'commander'
import { withDb } from '../database.js'
import { UsageError } from '../errors.js'
import {
  collectLabelChange,
  databaseCommand,
  jsonOption,
  orNone,
  parseCount,
  psqlAndExample,
} from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { calledBy } from '../targets/names.js'
import { json } from '../terminal/json.js'
import { printable } from '../terminal/text.js'
import { print } from '../terminal/stdout.js'
import { table } from '../terminal/table.js'

interface SetOptions extends DatabaseOptions, JsonOptions {
  weight?: number
  label?: Record<string, string | null>
  maxAssignments?: number
  agentUrl?: string
  gatewayUrl?: string
  dryRun?: boolean
}

export function addSet(program: Command): void {
  const set = program
    .command('set')
    .description('add a node, or change its settings (deployments: mooring apply)')
  databaseCommand(set.command('node', { isDefault: true }))
    .description('add a node, or change its settings')
    .argument('<node>')
    .option('--weight <n>', 'capacity relative to 100', Number)
    .option(
      '--label <key=value>',
      'adds or changes a label, key- takes it away; repeatable',
      collectLabelChange,
    )
    .option(
      '--max-assignments <n>',
      'at most so many, daemons not counted; none: no limit',
      orNone(parseCount, -1),
    )
    .option('--agent-url <url>', 'address of its agent, or none', orNone(String, ''))
    .option('--gateway-url <url>', 'address of its workloads, or none', orNone(String, ''))
    .option('--dry-run', 'show the node as it would be and what would stop, and change nothing')
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
  const { weight, label, maxAssignments, agentUrl, gatewayUrl, dryRun = false } = options
  if (weight !== undefined && !Number.isFinite(weight))
    throw new UsageError('--weight must be a number')
  await withDb(options, async (db) => {
    const { row, isNew, stopping } = await db.upsertNode(
      name,
      {
        ...(weight === undefined ? {} : { weight }),
        ...(label ? { labels: label } : {}),
        ...(maxAssignments === undefined ? {} : { maxAssignments }),
        ...(agentUrl === undefined ? {} : { agentBaseUrl: agentUrl }),
        ...(gatewayUrl === undefined ? {} : { gatewayBaseUrl: gatewayUrl }),
      },
      { dryRun },
    )
    if (stopping.length > 0) {
      const what = new Set(
        stopping.map((one) => calledBy({ id: one.deployment_id, name: one.name })),
      )
      process.stderr.write(
        `${name} ${dryRun ? 'would no longer be' : 'is no longer'} permitted to run ` +
          `${printable([...what].join(', '))}; ${stopping.length} of its instances ` +
          `${dryRun ? 'would stop' : 'stop'}\n`,
      )
    }
    // a misspelt name makes a node that no agent ever registers
    if (isNew && !dryRun)
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
