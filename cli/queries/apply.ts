/** The statements that say deployments: what a file declares, and the demo. Joined to the rest in db.ts. */
import type { Sql } from 'postgres'
import type { DeploymentSpec } from '../targets/deployment-file.js'

export interface AppliedRow {
  id: string
  name: string
  outcome: 'created' | 'changed' | 'unchanged'
}

export interface ApplyDb {
  /** Says the deployments, all or none of them. With dryRun the database ends as it was. */
  apply(specs: readonly DeploymentSpec[], options: { dryRun: boolean }): Promise<AppliedRow[]>
  /** The 21 deployments of the demo; only in a database that never had a deployment. */
  insertDemo(): Promise<number>
}

export function createApplyDb(sql: Sql): ApplyDb {
  return {
    apply: (specs, options) => apply(sql, specs, options),
    async insertDemo() {
      // http-server looks for a free port by itself, but twenty-one of them at once find the same one: ' 0' (a string that is not
      // false, so it is used as it stands) lets the kernel choose. 127.0.0.1: a demo does not open ports to the network.
      const rows = await sql`
        insert into mooring.deployment (package_name, package_version, args, enabled)
        select 'http-server', '14.1.1', '["-a", "127.0.0.1", "-p", " 0"]', true from generate_series(1, 21)
         where (select pg_sequence_last_value(pg_get_serial_sequence('mooring.deployment', 'id'))) is null
        returning id`
      return rows.length
    },
  }
}

/** What operators change by hand between two applies: kept when the file does not name it. Everything else goes to its default. */
const KEPT_UNLESS_NAMED = ['enabled', 'replicas'] as const
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
      for (const spec of specs) {
        const row = Object.fromEntries(
          Object.entries(spec).map(([key, value]) => [
            key,
            isJson(key) ? tx.json(value as never) : value,
          ]),
        )
        const compared = [...DECLARED, ...KEPT_UNLESS_NAMED.filter((column) => column in row)]
        // no alias for the table: the driver would read `as` before the row as a list of columns. `excluded` carries the column's default for what the file leaves out
        const [hit] = await tx<{ id: string; outcome: 'created' | 'changed' }[]>`
          insert into mooring.deployment ${tx(row as Record<string, never>)}
          on conflict (name) do update set ${compared.map((column, i) => tx`${i ? tx`, ` : tx``}${tx(column)} = excluded.${tx(column)}`)}
           where (${compared.map((column, i) => tx`${i ? tx`, ` : tx``}deployment.${tx(column)}`)})
                 is distinct from (${compared.map((column, i) => tx`${i ? tx`, ` : tx``}excluded.${tx(column)}`)})
          returning deployment.id, case when deployment.xmax = 0 then 'created' else 'changed' end as outcome`.catch(
          (error: unknown) => {
            throw named(error, spec.name)
          },
        )
        if (hit) applied.push({ id: hit.id, name: spec.name, outcome: hit.outcome })
        else {
          const [same] = await tx<
            { id: string }[]
          >`select d.id from mooring.deployment d where d.name = ${spec.name}`
          applied.push({ id: same?.id ?? '', name: spec.name, outcome: 'unchanged' })
        }
      }
      if (options.dryRun) throw new DryRun()
    })
  } catch (error) {
    if (!(error instanceof DryRun)) throw error
  }
  return applied
}

const JSON_COLUMNS: readonly string[] = ['labels', 'args', 'env', 'selector']
function isJson(column: string): boolean {
  return JSON_COLUMNS.includes(column)
}

/** The server's detail shows the whole failing row, env and all: only the message may travel on. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof Error)) return error
  error.message = `deployment ${name}: ${error.message}`
  delete (error as { detail?: string }).detail
  return error
}
