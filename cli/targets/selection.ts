/** The targets of a command: deployments or nodes by name, by label selector, or all of them. */
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import type { Queries } from '../queries/queries.js'
import type { NodeRow, DeploymentRow } from '../queries/rows.js'
import type { Requirement } from '../queries/labels.js'
import { CommandError, UsageError } from '../errors.js'
import { confirm } from '../terminal/confirm.js'
import { deploymentsNamed, nodesNamed } from './names.js'

export const SELECTOR_HELP = 'by labels: key=value, key!=value, key, !key, joined by commas'

export interface SelectionOptions {
  selector?: Requirement[]
  all?: boolean
}

/**
 * Commands that change something need a target: names, a label selector (-l), or --all. An empty
 * selector is refused.
 */
export function selecting(command: Command, kind: string): Command {
  return (
    command
      .argument(
        `[${kind}...]`,
        kind === 'deployment'
          ? 'by id or name; id:7 or name:7 where a number could be either'
          : 'by id or name',
      )
      .option('-l, --selector <labels>', SELECTOR_HELP, collectSelector)
      .option('--all', `every ${kind}`)
      // before any connection to the database
      .hook('preAction', (_, action) =>
        checkSelection(kind, action.args, action.opts<SelectionOptions>()),
      )
  )
}

/** Asks before changing what a selector or --all found. Named targets are not asked about. */
export async function confirmFound(
  verb: string,
  kind: string,
  names: readonly string[],
  options: SelectionOptions & { yes?: boolean },
): Promise<void> {
  if (options.selector === undefined && options.all !== true) return
  const what = names.length === 1 ? `${verb} the ${kind}` : `${verb} ${names.length} ${kind}s:`
  await confirm(what, names, options)
}

export async function selectedDeployments(
  db: Queries,
  named: string[],
  options: SelectionOptions,
): Promise<DeploymentRow[]> {
  if (named.length > 0) return deploymentsNamed(db, named)
  return found(await db.deployments({ labels: options.selector }), 'deployment', options)
}

export async function selectedNodes(
  db: Queries,
  named: string[],
  options: SelectionOptions,
): Promise<NodeRow[]> {
  if (named.length > 0) return nodesNamed(db, named)
  return found(await db.nodes(options.selector), 'node', options)
}

function checkSelection(
  kind: string,
  named: readonly string[],
  { selector, all }: SelectionOptions,
): void {
  const ways = [named.length > 0, selector !== undefined, all === true].filter(Boolean).length
  if (ways === 0)
    throw new UsageError(
      `which ${kind}s?`,
      'commands that change something need a target: names, a label selector (-l), or --all',
    )
  if (ways > 1) throw new UsageError('names, -l and --all exclude each other', 'use one of them')
}

/** The rows, unless there are none. */
function found<R>(rows: R[], kind: string, { selector }: SelectionOptions): R[] {
  if (rows.length > 0) return rows
  throw new CommandError(
    selector
      ? `no ${kind} has the labels ${selector.map(requirementText).join(',')}`
      : `there is no ${kind}`,
    `\`mooring get ${kind}s --wide\` shows the labels`,
  )
}

export function collectSelector(value: string, before: Requirement[] = []): Requirement[] {
  return [...before, ...value.split(',').map((part) => requirementOf(part.trim()))]
}

function requirementOf(text: string): Requirement {
  const { not, key, op, value } =
    /^(?<not>!?)(?<key>[^\s=!(),]+)(?:(?<op>!=|==?)(?<value>[^=]*))?$/.exec(text)?.groups ?? {}
  if (key === undefined || (not && op))
    throw new InvalidArgumentError(
      'Labels are written key=value, key!=value, key or !key, joined by commas; none may be empty.',
    )
  if (op === undefined) return { key, op: not ? 'absent' : 'exists', value: null }
  return { key, op: op === '!=' ? 'is_not' : 'is', value: value ?? '' }
}

export function requirementText({ key, op, value }: Requirement): string {
  return { is: `${key}=${value}`, is_not: `${key}!=${value}`, exists: key, absent: `!${key}` }[op]
}
