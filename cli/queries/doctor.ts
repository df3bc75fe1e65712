/** SQL of `mooring doctor` that only makes sense from a client: the findings themselves are mooring.doctor()'s. */
import type { Sql } from 'postgres'
import type { Client } from 'pg'

export type Level = 'ok' | 'warning' | 'problem'
export interface Finding {
  check_name: string
  level: Level
  found: string
  way_out: string | null
}

export interface ConnectionRow {
  user: string
  database: string
  standby: boolean
  tls: boolean | null
  can_ask: boolean | null
}

export const doctorRows = (sql: Sql) =>
  sql<Finding[]>`select d.check_name, d.level, d.found, d.way_out from mooring.doctor() d`

/** can_ask null: the schema knows no doctor yet. */
export async function connectionRow(sql: Sql): Promise<ConnectionRow> {
  const [row] = await sql<ConnectionRow[]>`
    select session_user::text as user, current_database()::text as database, pg_is_in_recovery() as standby, (select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()) as tls,
        (select has_function_privilege(p.oid, 'execute') and has_schema_privilege(p.pronamespace, 'usage') from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'mooring' and p.proname = 'doctor') as can_ask`
  return row!
}

/** The schema's number; null: not installed. Asked of the catalog first, because a role without rights on the schema is told of no function in it. */
export async function schemaVersion(sql: Sql): Promise<number | null> {
  const [row] =
    await sql`select from pg_namespace n join pg_proc p on p.pronamespace = n.oid where n.nspname = 'mooring' and p.proname = 'schema_version'`
  return row === undefined
    ? null
    : (await sql<{ version: number }[]>`select mooring.schema_version() as version`)[0]!.version
}

/** Somebody's lock on the table is a finding, and not the end of looking. */
export const agentVersions = (sql: Sql) =>
  sql.begin(async (tx) => {
    await tx`set local lock_timeout = '1s'`
    return tx<{ version: string; nodes: number }[]>`
    select coalesce(n.version, 'unknown') as version, count(*)::int as nodes from mooring.node_status n where n.session is not null group by 1 order by 1`
  })

export const clockMs = async (sql: Sql): Promise<number> =>
  (
    await sql<{ ms: number }[]>`select extract(epoch from clock_timestamp())::float8 * 1000 as ms`
  )[0]!.ms

export const listenTo = (client: Client, channel: string): Promise<unknown> =>
  client.query(`listen ${client.escapeIdentifier(channel)}`)
export const notify = (sql: Sql, channel: string) => sql`select pg_notify(${channel}, '')`
