/**
 * People name a thing by its name or its id, and say id:7 or name:7 where a number could be either: no name holds a colon. What is mistyped is told with the nearest names; what could be two things is not guessed.
 */
import type { Queries } from '../queries/queries.js'
import type { NodeRow, DeploymentRow } from '../queries/rows.js'
import { CommandError, UnknownNameError } from '../errors.js'

const NEAREST_SHOWN = 3

export async function deploymentId(db: Queries, idOrName: string): Promise<string> {
  return (await deploymentsNamed(db, [idOrName]))[0]!.id
}

/** All of them or an error; each once, in the order they were named. */
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
        `say which: ${ID}${text} (${whatIs(hits, ({ id }) => id === withoutZeros(text))}) or ${NAME}${text} (${whatIs(hits, ({ name }) => name === text)})`,
      )
    const [row] = hits
    if (!row)
      throw unknown('deployment', text, await db.deploymentNames(), '`mooring get deployments`')
    // an id named where the name of another is that number stays what it is: the row that was found
    found.set(row.id, row)
  }
  return [...found.values()]
}

const [ID, NAME] = ['id:', 'name:']

/** What was typed, without what says how it is meant. */
const bare = (text: string): string =>
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
      throw unknown(
        'node',
        text,
        rows.map(({ node }) => node),
        '`mooring get nodes`',
      )
    return row
  })
}

export function unknown(
  kind: string,
  typed: string,
  names: readonly string[],
  list: string,
): UnknownNameError {
  const near = nearest(typed, names)
  return new UnknownNameError(
    `there is no ${kind} ${typed}`,
    near.length > 0 ? `did you mean ${near.join(', ')}? See ${list}` : `see ${list}`,
  )
}

/** Close enough to be a slip of the fingers: at most a third of it differs. The nearest first. */
export function nearest(typed: string, names: readonly string[]): string[] {
  const limit = Math.max(1, Math.floor(typed.length / 3))
  return names
    .map((name) => ({ name, distance: editDistance(typed, name) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, NEAREST_SHOWN)
    .map(({ name }) => name)
}

/** What people call it: its name, or its id where it has none. */
export const calledBy = ({ id, name }: { id: string; name: string | null }): string => name ?? id

const withoutZeros = (text: string): string =>
  /^\d+$/.test(text) ? text.replace(/^0+(?=\d)/, '') : text

/** Of letters left out, put in, taken for others, or swapped with their neighbour. */
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
