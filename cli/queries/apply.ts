/** The statements that declare deployments: those of a file, and the demo. Part of queries.ts. */
import type { Sql } from 'postgres'
import type { DeploymentSpec } from '../targets/deployment-file.js'
import { textList } from './lists.js'
import type { AppliedRow } from './rows.js'

export interface ApplyQueries {
  /** Declares all of the deployments or none. With dryRun the database ends as it was. */
  apply(specs: readonly DeploymentSpec[], options: { dryRun: boolean }): Promise<AppliedRow[]>
  /** Inserts the 21 deployments of the demo, unless the database ever had a deployment. */
  insertDemo(): Promise<number>
}

export function createApplyQueries(sql: Sql): ApplyQueries {
  return {
    apply: (specs, options) => apply(sql, specs, options),
    async insertDemo() {
      // http-server looks for a free port itself, and twenty-one at once find the same one. The
      // port ' 0' passes its check for "not set", and the kernel chooses. 127.0.0.1: no open ports.
      const rows = await sql`
        insert into mooring.deployment (package_name, package_version, args, enabled)
        select 'http-server', '14.1.1', '["-a", "127.0.0.1", "-p", " 0"]', true
          from generate_series(1, 21)
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

async function apply(
  sql: Sql,
  specs: readonly DeploymentSpec[],
  options: { dryRun: boolean },
): Promise<AppliedRow[]> {
  const applied: AppliedRow[] = []
  try {
    await sql.begin(async (tx) => {
      const ids = await lockKnown(tx as unknown as Sql, specs)
      for (const spec of inOrderOfLocks(specs))
        applied.push(await applyOne(tx as unknown as Sql, spec, ids.get(spec.name)))
      if (options.dryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw error
  }
  const order = new Map(specs.map(({ name }, index) => [name, index]))
  return applied.sort((a, b) => order.get(a.name)! - order.get(b.name)!)
}

/** Two files with the same names in two orders must not wait for each other. */
const inOrderOfLocks = (specs: readonly DeploymentSpec[]) =>
  [...specs].sort((a, b) => (a.name < b.name ? -1 : 1))

/** The ids of the names that exist. Their rows stay as they are until the transaction ends. */
async function lockKnown(tx: Sql, specs: readonly DeploymentSpec[]): Promise<Map<string, string>> {
  const names = specs.map(({ name }) => name)
  const rows = await tx<{ id: string; name: string }[]>`
    select d.id, d.name
      from mooring.deployment d
     where d.name in (${textList(tx, names)})
     order by d.name collate "C"
       for update`
  return new Map(rows.map(({ id, name }) => [name, id]))
}

async function applyOne(
  tx: Sql,
  spec: DeploymentSpec,
  id: string | undefined,
): Promise<AppliedRow> {
  const row = Object.fromEntries(
    Object.entries(spec).map(([key, value]) => [
      key,
      isJson(key) ? tx.json(value as never) : value,
    ]),
  )
  // an insert that ends in the conflict would use up a number of the identity
  if (id !== undefined) row['id'] = id
  const columns = [...DECLARED, ...KEPT_UNLESS_NAMED.filter((column) => column in row)]
  const listed = (part: (column: string) => ReturnType<Sql>) =>
    columns.map((column, i) => tx`${i ? tx`, ` : tx``}${part(column)}`)
  // No alias for the table: the driver reads `as` before the row as a list of columns.
  // `excluded` carries the column's default for what the file omits.
  const [hit] = await tx<{ id: string; outcome: 'created' | 'changed' }[]>`
    insert into mooring.deployment ${tx(row as Record<string, never>)}
    on conflict (name) do update
       set ${listed((column) => tx`${tx(column)} = excluded.${tx(column)}`)}
     where (${listed((column) => tx`deployment.${tx(column)}`)})
           is distinct from (${listed((column) => tx`excluded.${tx(column)}`)})
    returning deployment.id,
        case when deployment.xmax = 0 then 'created' else 'changed' end as outcome`.catch(
    (error: unknown) => {
      throw named(error, spec.name)
    },
  )
  if (hit) return { id: hit.id, name: spec.name, outcome: hit.outcome }
  return { id: id ?? '', name: spec.name, outcome: 'unchanged' }
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
