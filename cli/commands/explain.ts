import type { Command } from 'commander'
import { withDb } from '../database.js'
import type { CliDb } from '../db.js'
import { CommandError } from '../errors.js'
import { databaseCommand, jsonOption } from '../options.js'
import type { DatabaseOptions, JsonOptions } from '../options.js'
import { columnsOf, json, print, table } from '../render.js'

export function addExplain(program: Command): void {
  databaseCommand(program.command('explain'))
    .description('say for each node why a deployment may run there, or not')
    .argument('<deployment>', 'id or name')
    .option('--wide', 'show every predicate as a column')
    .addOption(jsonOption('print the rows of mooring.explain() as a JSON array'))
    .action(explain)
}

/** The verdict names the predicate that fails; the rest is for --wide and --json. */
const BRIEF = ['node', 'verdict', 'cost', 'assigned', 'here']

async function explain(deployment: string, options: DatabaseOptions & JsonOptions & { wide?: boolean }): Promise<void> {
  await withDb(options, async (db) => {
    const rows = await db.explain(await deploymentId(db, deployment))
    if (options.json) return print(json(rows))
    const columns = columnsOf(rows)
    const shown = options.wide ? columns : columns.filter((column) => BRIEF.includes(column.key))
    print(rows.length > 0 ? table(rows, shown) : 'no nodes yet: start one with `mooring agent`')
  })
}

/** A name that is a number may mean one deployment by its name and another by its id: then nothing is guessed. */
export async function deploymentId(db: CliDb, idOrName: string): Promise<string> {
  const ids = await db.deploymentIds(idOrName)
  if (ids.length > 1) throw new CommandError(`'${idOrName}' is the name of one deployment and the id of another`, `say which by id: ${ids.join(' or ')}`)
  const [id] = ids
  if (id !== undefined) return id
  const near = nearest(idOrName, await db.deploymentNames())
  throw new CommandError(`there is no deployment ${idOrName}`, near ? `did you mean ${near}?` : 'id and name of each stand in the view mooring.placement: `mooring psql`')
}

/** Close enough to be a slip of the fingers: at most a third of it differs. */
export function nearest(typed: string, names: readonly string[]): string | null {
  const ranked = names.map((name) => ({ name, distance: editDistance(typed, name) })).sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(1, Math.floor(typed.length / 3)) ? best.name : null
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
