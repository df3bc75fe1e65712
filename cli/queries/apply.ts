/** The statements that declare deployments: those of a file, and the demo. Part of queries.ts. */
import type { Sql } from 'postgres'
import { UsageError } from '../errors.js'
import type { DeploymentSpec } from '../targets/deployment-file.js'
import { differences } from '../targets/differences.js'
import { labelled } from './labels.js'
import type { Requirement } from './labels.js'
import { idArray, textList } from './lists.js'
import type { AppliedRow } from './rows.js'

export interface ApplyOptions {
  /** The database ends as it was. */
  dryRun: boolean
  /** What has these labels and is not declared is deleted. */
  prune?: readonly Requirement[] | undefined
}

export interface ApplyQueries {
  /** Declares all of the deployments or none. */
  apply(specs: readonly DeploymentSpec[], options: ApplyOptions): Promise<AppliedRow[]>
  /**
   * Inserts the 21 deployments of the demo, unless the database ever had a deployment. The first,
   * hello, listens on that port of loopback.
   */
  insertDemo(port: number): Promise<number>
}

export function createApplyQueries(sql: Sql): ApplyQueries {
  return {
    apply: (specs, options) => apply(sql, specs, options),
    async insertDemo(port) {
      // http-server looks for a free port itself, and twenty-one at once find the same one. The
      // port ' 0' passes its check for "not set", and the kernel chooses. 127.0.0.1: no open ports.
      const rows = await sql`
        insert into mooring.deployment (name, package_name, package_version, args)
        select case when nr = 1 then 'hello' end, 'http-server', '14.1.1',
               case
                 when nr = 1 then ${sql.json(['-a', '127.0.0.1', '-p', String(port)])}::jsonb
                 else '["-a", "127.0.0.1", "-p", " 0"]'
               end
          from generate_series(1, 21) nr
         where (
           select pg_sequence_last_value(pg_get_serial_sequence('mooring.deployment', 'id'))
         ) is null
        returning id`
      return rows.length
    },
  }
}

/** Operators change these by hand between two applies: they stay where the file omits them. */
const KEPT_UNLESS_NAMED = ['enabled', 'replicas'] as const
/** These get their default where the file omits them. */
const DECLARED = [
  'labels',
  'type',
  'package_name',
  'package_version',
  'command',
  'args',
  'env',
  'policy',
  'selector',
  'pinned_node',
  'needs_urls',
  'on_lost',
  'handover',
  'lease_ttl',
  'stop_grace',
] as const

class DryRun extends Error {}

interface Known extends Counted {
  name: string
  row: Record<string, unknown>
}
interface Counted {
  id: string
  /** Instances that a node owns and shall run. */
  running: number
}

async function apply(
  sql: Sql,
  specs: readonly DeploymentSpec[],
  { dryRun, prune }: ApplyOptions,
): Promise<AppliedRow[]> {
  const applied: AppliedRow[] = []
  try {
    await sql.begin(async (begun) => {
      const tx = begun as unknown as Sql
      const known = await lockKnown(tx, specs, prune)
      for (const [index, spec] of inOrderOfLocks(specs).entries())
        applied.push(
          await applyOne(tx, spec, known.get(spec.name), dryRun ? -1 - index : undefined),
        )
      if (prune) {
        await refuseForeign(tx, specs, prune)
        applied.push(...(await deleteRest(tx, known, specs)))
      }
      await countStops(tx, applied, known)
      if (dryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw error
  }
  // what the file names in its order, then what it no longer names
  const order = new Map(specs.map(({ name }, index) => [name, index]))
  const place = ({ name }: AppliedRow) => order.get(name) ?? specs.length
  return applied.sort((a, b) => place(a) - place(b))
}

/** Two files with the same names in two orders must not wait for each other. */
const inOrderOfLocks = (specs: readonly DeploymentSpec[]) =>
  [...specs].sort((a, b) => (a.name < b.name ? -1 : 1))

/**
 * What exists of the file, and what has its label. A deployment without a name never came from a
 * file. The rows stay as they are until the transaction ends.
 */
async function lockKnown(
  tx: Sql,
  specs: readonly DeploymentSpec[],
  prune: readonly Requirement[] | undefined,
): Promise<Map<string, Known>> {
  const names = specs.map(({ name }) => name)
  const rows = await tx<Omit<Known, 'running'>[]>`
    select d.id, d.name, to_jsonb(d) as row
      from mooring.deployment d
     where d.name in (${textList(tx, names)})
        or ${prune ? tx`d.name is not null and ${labelled(tx, tx`d.labels`, prune)}` : tx`false`}
     order by d.name collate "C"
       for update`
  const running = await runningOf(
    tx,
    rows.map(({ id }) => id),
  )
  return new Map(rows.map((row) => [row.name, { ...row, running: running.get(row.id) ?? 0 }]))
}

async function runningOf(tx: Sql, ids: readonly string[]): Promise<Map<string, number>> {
  const rows = await tx<Counted[]>`
    select p.deployment_id as id, count(*)::int as running
      from mooring.placement p
     where p.deployment_id = any (${idArray(tx, ids)})
       and p.node is not null
       and p.wanted = 'run'
       and p.handover is null
     group by 1`
  return new Map(rows.map(({ id, running }) => [id, running]))
}

async function applyOne(
  tx: Sql,
  spec: DeploymentSpec,
  known: Known | undefined,
  dryRunId: number | undefined,
): Promise<AppliedRow> {
  const row = Object.fromEntries(
    Object.entries(spec).map(([key, value]) => [
      key,
      isJson(key) ? tx.json(value as never) : value,
    ]),
  )
  // An insert that ends in the conflict, or is undone, would use up a number of the identity. The
  // instances of a dry run would, too.
  if (known) row['id'] = known.id
  else if (dryRunId !== undefined)
    Object.assign(row, {
      id: dryRunId,
      ...(spec.type === 'daemon' ? { enabled: false } : { replicas: 0 }),
    })
  const columns = [...DECLARED, ...KEPT_UNLESS_NAMED.filter((column) => column in row)]
  const listed = (part: (column: string) => ReturnType<Sql>) =>
    columns.map((column, i) => tx`${i ? tx`, ` : tx``}${part(column)}`)
  // No alias for the table: the driver reads `as` before the row as a list of columns.
  // `excluded` carries the column's default for what the file omits.
  const [hit] = await tx<{ id: string; made: boolean; row: Record<string, unknown> }[]>`
    insert into mooring.deployment ${tx(row as Record<string, never>)}
    on conflict (name) do update
       set ${listed((column) => tx`${tx(column)} = excluded.${tx(column)}`)}
     where (${listed((column) => tx`deployment.${tx(column)}`)})
           is distinct from (${listed((column) => tx`excluded.${tx(column)}`)})
    returning deployment.id, deployment.xmax = 0 as made, to_jsonb(deployment) as row`.catch(
    (error: unknown) => {
      throw named(error, spec.name)
    },
  )
  const { name } = spec
  const nothing = { changes: [], restarts: 0, stops: 0 }
  if (!hit) return { id: known?.id ?? '', name, outcome: 'unchanged', ...nothing }
  if (hit.made || !known)
    return { id: dryRunId === undefined ? hit.id : '', name, outcome: 'created', ...nothing }
  return {
    id: hit.id,
    name,
    outcome: 'changed',
    ...nothing,
    changes: differences(known.row, hit.row, columns),
    restarts: hit.row['generation'] === known.row['generation'] ? 0 : known.running,
  }
}

/** Otherwise the next prune would delete what this apply has made. */
async function refuseForeign(
  tx: Sql,
  specs: readonly DeploymentSpec[],
  prune: readonly Requirement[],
): Promise<void> {
  const names = specs.map(({ name }) => name)
  const rows = await tx<{ name: string }[]>`
    select d.name
      from mooring.deployment d
     where d.name in (${textList(tx, names)})
       and not ${labelled(tx, tx`d.labels`, prune)}
     order by d.name`
  const foreign = rows.map(({ name }) => name).join(', ')
  const labels = prune.map(({ key, value }) => `${key}=${value}`).join(',')
  if (foreign)
    throw new UsageError(
      `nothing was applied: ${foreign} of the file without the labels ${labels}`,
      '--prune deletes by these labels what the file does not name, so all of the file has them',
    )
}

async function deleteRest(
  tx: Sql,
  known: ReadonlyMap<string, Known>,
  specs: readonly DeploymentSpec[],
): Promise<AppliedRow[]> {
  const names = new Set(specs.map(({ name }) => name))
  const rest = [...known.values()].filter(({ name }) => !names.has(name))
  await tx`
    delete from mooring.deployment d
     where d.id = any (${idArray(
       tx,
       rest.map(({ id }) => id),
     )})`
  return rest.map(({ id, name }) => ({
    id,
    name,
    outcome: 'deleted',
    changes: [],
    restarts: 0,
    stops: 0,
  }))
}

/** The triggers have ordered the stops already, so they can be counted, also in a dry run. */
async function countStops(
  tx: Sql,
  applied: AppliedRow[],
  known: ReadonlyMap<string, Known>,
): Promise<void> {
  const touched = applied.filter(({ outcome }) => outcome === 'changed' || outcome === 'deleted')
  const left = await runningOf(
    tx,
    touched.map(({ id }) => id),
  )
  for (const row of touched) {
    const remaining = left.get(row.id) ?? 0
    row.stops = Math.max(0, known.get(row.name)!.running - remaining)
    row.restarts = Math.min(row.restarts, remaining)
  }
}

const JSON_COLUMNS: readonly string[] = ['labels', 'args', 'env', 'selector']
const isJson = (column: string): boolean => JSON_COLUMNS.includes(column)

/** Drops the server's detail, because it shows the whole failing row, env included. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof Error)) return error
  error.message = `deployment ${name}: ${error.message}`
  delete (error as { detail?: string }).detail
  return error
}
