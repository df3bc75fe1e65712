/** Which deployments or nodes a command is about: those that are named, those that match a label selector, or all that there are. */
import { InvalidArgumentError } from 'commander'
import type { Command } from 'commander'
import type { Queries } from '../queries/queries.js'
import type { NodeRow, DeploymentRow } from '../queries/rows.js'
import type { Requirement } from '../queries/labels.js'
import { CommandError, UsageError } from '../errors.js'
import { deploymentsNamed, nodesNamed } from './names.js'

export interface SelectionOptions {
  selector?: Requirement[]
  all?: boolean
}

/** For commands that change something: whom is always said. A selector that was meant to say something and says nothing matches nobody. */
export function selecting(command: Command, kind: string): Command {
  return (
    command
      .argument(
        `[${kind}...]`,
        kind === 'deployment'
          ? 'by id or name; id:7 or name:7 where a number could be either'
          : 'by id or name',
      )
      .option(
        '-l, --selector <labels>',
        'those with these labels: key=value, key!=value, key, !key, joined by commas',
        collectSelector,
      )
      .option('--all', `every ${kind}`)
      // before any database is asked
      .hook('preAction', (_, action) =>
        checkSelection(kind, action.args, action.opts<SelectionOptions>()),
      )
  )
}

/** What is typed by name is meant; what a selector finds is shown first, and asked about. */
export const isFound = ({ selector, all }: SelectionOptions): boolean =>
  selector !== undefined || all === true

export async function selectedDeployments(
  db: Queries,
  named: string[],
  options: SelectionOptions,
): Promise<DeploymentRow[]> {
  if (named.length > 0) return deploymentsNamed(db, named)
  const rows = await db.deployments({ labels: options.selector })
  if (rows.length === 0)
    throw new CommandError(
      nobody('deployment', options),
      'see the labels there are: `mooring get deployments --wide`',
    )
  return rows
}

export async function selectedNodes(
  db: Queries,
  named: string[],
  options: SelectionOptions,
): Promise<NodeRow[]> {
  if (named.length > 0) return nodesNamed(db, named)
  const rows = await db.nodes(options.selector)
  if (rows.length === 0)
    throw new CommandError(
      nobody('node', options),
      'see the labels there are: `mooring get nodes --wide`',
    )
  return rows
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
      `name them, select them by label (-l key=value), or say --all`,
    )
  if (ways > 1) throw new UsageError('names, -l and --all exclude each other', 'say one of them')
}

const nobody = (kind: string, { selector }: SelectionOptions): string =>
  selector
    ? `no ${kind} has the labels ${selector.map(requirementText).join(',')}`
    : `there is no ${kind}`

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
