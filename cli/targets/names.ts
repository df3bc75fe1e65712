/**
 * Targets by name or id; id:7 or name:7 where a number could be either, because no name holds a
 * colon. Unknown names are answered with the nearest ones, ambiguous ones are refused.
 */
import type { Queries } from '../queries/queries.js'
import type { NodeRow, DeploymentRow } from '../queries/rows.js'
import { CommandError, UnknownNameError } from '../errors.js'

const NEAREST_SHOWN = 3

export async function deploymentId(db: Queries, idOrName: string): Promise<string> {
  return (await deploymentsNamed(db, [idOrName]))[0]!.id
}

/** All of them or an error; each once, in the given order. */
export async function deploymentsNamed(
  db: Queries,
  typed: readonly string[],
): Promise<DeploymentRow[]> {
  const rows = await db.deployments({ named: typed.map(bare) })
  const found = new Map<string, DeploymentRow>()
  for (const text of typed) {
    const hits = rows.filter(
      (row) =>
        (!text.startsWith(ID) && row.name === bare(text)) ||
        (!text.startsWith(NAME) && row.id === withoutZeros(bare(text))),
    )
    if (hits.length > 1)
      throw new CommandError(
        `'${text}' is the name of one deployment and the id of another`,
        `write ${ID}${text} (${whatIs(hits, ({ id }) => id === withoutZeros(text))}) ` +
          `or ${NAME}${text} (${whatIs(hits, ({ name }) => name === text)})`,
      )
    const [row] = hits
    if (!row)
      throw noSuch('deployment', text, await db.deploymentNames(), '`mooring get deployments`')
    found.set(row.id, row)
  }
  return [...found.values()]
}

const [ID, NAME] = ['id:', 'name:']

/** The text without its prefix id: or name:. */
export const bare = (text: string): string =>
  text.startsWith(ID)
    ? text.slice(ID.length)
    : text.startsWith(NAME)
      ? text.slice(NAME.length)
      : text

function whatIs(hits: readonly DeploymentRow[], isMeant: (row: DeploymentRow) => boolean): string {
  const { id, name } = hits.find(isMeant)!
  return `deployment ${id}${name === null ? ', which has no name' : `, named ${name}`}`
}

export async function nodesNamed(db: Queries, typed: readonly string[]): Promise<NodeRow[]> {
  const rows = await db.nodes()
  return [...new Set(typed)].map((text) => {
    const row =
      rows.find(({ node }) => node === text) ?? rows.find(({ node_id }) => String(node_id) === text)
    if (!row)
      throw noSuch(
        'node',
        text,
        rows.map(({ node }) => node),
        '`mooring get nodes`',
      )
    return row
  })
}

export function noSuch(
  kind: string,
  typed: string,
  names: readonly string[],
  list: string,
): UnknownNameError {
  const near = nearest(typed, names)
  return new UnknownNameError(
    `there is no ${kind} ${typed}`,
    near.length > 0
      ? `did you mean ${near.join(', ')}? List them with ${list}`
      : `list them with ${list}`,
  )
}

/** The names of which at most a third differs from the typed one. The nearest comes first. */
export function nearest(typed: string, names: readonly string[]): string[] {
  const limit = Math.max(1, Math.floor(typed.length / 3))
  return names
    .map((name) => ({ name, distance: editDistance(typed, name) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, NEAREST_SHOWN)
    .map(({ name }) => name)
}

/** The name of a deployment, or its id where it has none. */
export const calledBy = ({ id, name }: { id: string; name: string | null }): string => name ?? id

const withoutZeros = (text: string): string =>
  /^\d+$/.test(text) ? text.replace(/^0+(?=\d)/, '') : text

/** The number of letters omitted, inserted, replaced, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
          ? before[j - 2]! + 1
          : Number.POSITIVE_INFINITY
      next.push(
        Math.min(
          next[j - 1]! + 1,
          row[j]! + 1,
          row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1),
          swapped,
        ),
      )
    }
    before = row
    row = next
  }
  return row[b.length]!
}
