import { Option } from 'commander'
import type { Command } from 'commander'
import {
  ASSIGNMENT_COLUMNS,
  DEPLOYMENT_COLUMNS,
  DEPLOYMENT_COLUMNS_WIDE,
  NODE_COLUMNS,
  NODE_COLUMNS_WIDE,
  withStates,
} from '../terminal/columns.js'
import { withDb } from '../database.js'
import type { Queries } from '../queries/queries.js'
import type { Requirement } from '../queries/labels.js'
import { UsageError } from '../errors.js'
import { show } from '../terminal/listing.js'
import type { Listing, ListingOptions } from '../terminal/listing.js'
import { deploymentId, deploymentsNamed, nodesNamed, noSuch } from '../targets/names.js'
import {
  databaseCommand,
  jsonOption,
  parseAssignmentId,
  parseCount,
  wideOption,
} from '../options.js'
import type { DatabaseOptions } from '../options.js'
import { collectSelector, SELECTOR_HELP } from '../targets/selection.js'

interface GetOptions extends DatabaseOptions, ListingOptions {
  selector?: Requirement[]
  wide?: boolean
  limit?: number
  skip: number
  deployment?: string
  node?: string
}

export function addGet(program: Command): void {
  const get = program.command('get').description('list deployments, nodes or assignments')
  const kind = (
    name: string,
    argument: string,
    jsonHelp: string,
    listing: (db: Queries, named: string[], options: GetOptions) => Promise<Listing>,
  ) => {
    const command = get
      .command(name)
      .alias(name.slice(0, -1))
      .description(`list ${name}`)
      .argument(`[${argument}...]`, 'these only')
      .option(
        '-l, --selector <labels>',
        `${SELECTOR_HELP}${name === 'assignments' ? '; labels of their deployments' : ''}`,
        collectSelector,
      )
      .addOption(
        new Option('-q, --quiet', 'names only, one a line').conflicts(['watch', 'json', 'wide']),
      )
      .option('-w, --watch', 'show changes until Ctrl-C')
      .option('-n, --limit <n>', 'show at most n rows', parseCount)
      .option('--skip <n>', 'leave out the first n', parseCount, 0)
      .addOption(jsonOption(`print ${jsonHelp} as a JSON array; with --watch one object a line`))
      .action((named: string[], options: GetOptions) => {
        if (named.length > 0 && options.selector)
          throw new UsageError('names and -l exclude each other', 'use one of them')
        return withDb(options, async (db) => show(await listing(db, named, options), options))
      })
    return databaseCommand(command)
  }
  kind('deployments', 'deployment', 'the deployments without command, args and env', deployments)
    .addOption(wideOption('more columns, '))
    .addHelpText(
      'after',
      `
In psql: select * from mooring.deployment where labels @> '{"key": "value"}';
Example: mooring get deployments -l tier=front,env!=test --watch`,
    )
  kind('nodes', 'node', 'the rows of mooring.node_status', nodes)
    .addOption(wideOption('more columns, '))
    .addHelpText(
      'after',
      `
In psql: select * from mooring.node_status;
Example: mooring get nodes -l zone=a --watch`,
    )
  kind('assignments', 'assignment', 'the rows of mooring.placement', assignments)
    .addOption(wideOption())
    .option('--deployment <deployment>', 'those of a deployment')
    .option('--node <node>', 'what a node owns')
    .addHelpText(
      'after',
      `
In psql: select * from mooring.placement where node = 'host-a';
         select * from mooring.placements_of('host-a', 200, 0);
Example: mooring get assignments --node host-a -n 200 --skip 200`,
    )
}

async function deployments(
  db: Queries,
  named: string[],
  { selector, limit, skip, wide }: GetOptions,
): Promise<Listing> {
  const ids = named.length > 0 ? (await deploymentsNamed(db, named)).map(({ id }) => id) : undefined
  return {
    key: 'id',
    name: 'name',
    changesByItself: ['created_at'],
    columns: wide ? DEPLOYMENT_COLUMNS_WIDE : DEPLOYMENT_COLUMNS,
    empty: selector
      ? 'no deployment has these labels'
      : 'no deployments yet: `mooring apply FILE`, or insert in `mooring psql`',
    read: () => db.deployments({ ids, labels: selector, limit, skip }),
  }
}

async function nodes(
  db: Queries,
  named: string[],
  { selector, limit, skip, wide }: GetOptions,
): Promise<Listing> {
  const names = named.length > 0 ? (await nodesNamed(db, named)).map(({ node }) => node) : undefined
  return {
    key: 'node',
    columns: wide ? NODE_COLUMNS_WIDE : NODE_COLUMNS,
    changesByItself: ['beat_age', 'cpu_pct', 'memory_mb', 'disk_free_pct'],
    empty: selector
      ? 'no node has these labels'
      : "no nodes yet: start one with `mooring agent --name host-a --trust '^http-server@'`",
    async read() {
      // Limited here, because the names are picked here and a limit counts only those. A fleet has
      // few nodes.
      const [rows, states] = [await db.nodes(selector), await db.states()]
      const shown = rows
        .filter(({ node }) => names?.includes(node) ?? true)
        .slice(skip, limit === undefined ? undefined : skip + limit)
      return withStates(shown, states)
    },
  }
}

async function assignments(
  db: Queries,
  named: string[],
  { selector, limit, skip, deployment, node }: GetOptions,
): Promise<Listing> {
  const ids =
    named.length > 0 ? named.map((id) => BigInt(parseAssignmentId(id)).toString()) : undefined
  const found =
    ids && new Set((await db.assignments({ ids })).map(({ assignment_id }) => assignment_id))
  const missing = ids?.find((id) => !found!.has(id))
  if (missing !== undefined)
    throw noSuch(
      'assignment',
      missing,
      [],
      `\`mooring get assignments\`, its past with \`mooring history ${missing}\``,
    )
  const deploymentIds = deployment === undefined ? undefined : [await deploymentId(db, deployment)]
  const owner = node === undefined ? undefined : (await nodesNamed(db, [node]))[0]!.node
  return {
    key: 'assignment_id',
    columns: ASSIGNMENT_COLUMNS,
    changesByItself: ['assigned_at', 'last_error_at'],
    empty: owner === undefined ? 'no assignments' : `${owner} owns nothing`,
    read: () =>
      db.assignments({
        ids,
        deployments: deploymentIds,
        node: owner,
        labels: selector,
        limit,
        skip,
      }),
  }
}
