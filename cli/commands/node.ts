import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { CliDb } from '../db.js'
import { UsageError } from '../errors.js'
import { collectLabel, databaseCommand, jsonOption, parseCount } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { json, print, table } from '../render.js'
import { NODE_COLUMNS } from '../up-frame.js'
import { statesOf } from '../up-snapshot.js'

type Options = DatabaseOptions & JsonOptions

interface SetOptions extends Options { weight?: number; label?: Record<string, string>; maxAssignments?: number; agentUrl?: string; gatewayUrl?: string }

export function addNode(program: Command): void {
  const node = program.command('node').description('the register of nodes: list, show, set, enable, disable, forget')
  databaseCommand(node.command('list')).description('every node, its health and its load')
    .addOption(jsonOption('print the rows of mooring.node_status as JSON')).action(list)
  databaseCommand(node.command('show')).description('what a node owns').argument('<node>')
    .option('-n, --limit <n>', 'at most so many (up to 2000)', parseCount, 200).option('--skip <n>', 'after the first n', parseCount, 0)
    .addOption(jsonOption('print the rows of mooring.placements_of() as JSON')).action(show)
  databaseCommand(node.command('set')).description('add a node, or change what is given of it').argument('<node>')
    .option('--weight <n>', 'capacity relative to 100', Number)
    .option('--label <key=value>', 'all its labels; repeatable', collectLabel)
    .option('--max-assignments <n>', 'at most so many, daemons not counted', parseCount)
    .option('--agent-url <url>', 'where its agent is reached').option('--gateway-url <url>', 'where its workloads are reached')
    .addOption(jsonOption('print the row of mooring.node_status as JSON')).action(set)
  const verb = (name: string, description: string, done: string, work: (db: CliDb, node: string) => Promise<void>) => {
    databaseCommand(node.command(name)).description(description).argument('<node>').addOption(jsonOption('print {node, done} as JSON'))
      .action((name: string, options: Options) => withDb(options, async (db) => {
        await work(db, name)
        print(options.json ? json({ node: name, done }) : `${name} ${done}`)
      }))
  }
  verb('enable', 'open a node for new work', 'takes new work', (db, name) => db.setNodeEnabled(name, true))
  verb('disable', 'give a node nothing new; what it runs stays (to move that away: mooring drain)', 'takes no new work', (db, name) => db.setNodeEnabled(name, false))
  verb('forget', 'delete a node whose agent has stopped and that owns nothing', 'is forgotten', (db, name) => db.forgetNode(name))
}

async function list(options: Options): Promise<void> {
  await withDb(options, async (db) => {
    const nodes = await db.nodes()
    if (options.json) return print(json(nodes))
    const states = await db.states()
    print(nodes.length > 0 ? table(nodes.map((row) => ({ ...row, states: statesOf(row.node, states) })), NODE_COLUMNS) : 'no nodes yet: start one with `mooring agent`')
  })
}

async function show(name: string, options: Options & { limit: number; skip: number }): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.placementsOf(name, options.limit, options.skip)
    if (options.json) return print(json(rows))
    print(rows.length > 0 ? table(rows, [
      { key: 'assignment_id', title: 'assignment', align: 'right' }, { key: 'deployment_id', title: 'deployment', align: 'right' }, { key: 'name' }, { key: 'package_name', title: 'package' },
      { key: 'epoch', align: 'right' }, { key: 'wanted' }, { key: 'run_state', title: 'state' }, { key: 'pid', align: 'right' }, { key: 'restarts', align: 'right' }, { key: 'move_to', title: 'goes to' }, { key: 'last_error', title: 'last error' },
    ]) : `${name} owns nothing`)
  })
}

async function set(name: string, options: SetOptions): Promise<void> {
  const { weight, label, maxAssignments, agentUrl, gatewayUrl } = options
  if (weight !== undefined && !Number.isFinite(weight)) throw new UsageError('--weight must be a number')
  await withDb(options, async (db) => {
    const row = await db.upsertNode(name, {
      ...(weight === undefined ? {} : { weight }), ...(label ? { labels: label } : {}), ...(maxAssignments === undefined ? {} : { maxAssignments }),
      ...(agentUrl === undefined ? {} : { agentBaseUrl: agentUrl }), ...(gatewayUrl === undefined ? {} : { gatewayBaseUrl: gatewayUrl }),
    })
    if (options.json) return print(json(row))
    print(table([row], ['node', 'health', 'weight', 'labels', 'max_assignments', 'agent_base_url', 'gateway_base_url'].map((key) => ({ key }))))
  })
}
