/** SQL of `mooring doctor` that makes sense from a client only. The rest is mooring.doctor(). */
import type { Sql } from 'postgres'
import type { Client } from 'pg'
import type { ConnectionRow, Finding } from './rows.js'

export const doctorRows = (sql: Sql) => sql<Finding[]>`
  select d.check_name, d.level, d.found, d.way_out from mooring.doctor() d`

export async function connectionRow(sql: Sql): Promise<ConnectionRow> {
  const [row] = await sql<ConnectionRow[]>`
    select session_user::text as user,
        current_database()::text as database,
        pg_is_in_recovery() as standby,
        (select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()) as tls,
        (select has_function_privilege(p.oid, 'execute')
                and has_schema_privilege(p.pronamespace, 'usage')
           from pg_proc p
           join pg_namespace n on n.oid = p.pronamespace
          where n.nspname = 'mooring'
            and p.proname = 'doctor') as can_ask`
  return row!
}

/**
 * The version of the schema; null where it is not installed. The catalog is asked first, because a
 * role without rights on the schema sees none of its functions.
 */
export async function schemaVersion(sql: Sql): Promise<number | null> {
  const [installed] = await sql`
    select
      from pg_namespace n
      join pg_proc p on p.pronamespace = n.oid
     where n.nspname = 'mooring'
       and p.proname = 'schema_version'`
  if (installed === undefined) return null
  const [row] = await sql<{ version: number }[]>`select mooring.schema_version() as version`
  return row!.version
}

/** The lock timeout turns a lock that another session holds into a finding. */
export const agentVersions = (sql: Sql) =>
  sql.begin(async (tx) => {
    await tx`set local lock_timeout = '1s'`
    return tx<{ version: string; nodes: number }[]>`
      select coalesce(n.version, 'unknown') as version, count(*)::int as nodes
        from mooring.node_status n
       where n.session is not null
       group by 1
       order by 1`
  })

export async function clockMs(sql: Sql): Promise<number> {
  const [row] = await sql<{ ms: number }[]>`
    select extract(epoch from clock_timestamp())::float8 * 1000 as ms`
  return row!.ms
}

export const listenTo = (client: Client, channel: string): Promise<unknown> =>
  client.query(`listen ${client.escapeIdentifier(channel)}`)
export const notify = (sql: Sql, channel: string) => sql`select pg_notify(${channel}, '')`
