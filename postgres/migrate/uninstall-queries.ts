import pg from 'pg'
import { pgConfig, type DatabaseUrl } from '../database-url.js'
import { settingOptions } from '../session-settings.js'

/** What Mooring has put into a database, and what stands against its removal. */
export interface Installed {
  database: string
  /** Whether the tables are there: a migration that failed leaves a part. */
  complete: boolean
  /** Of `mooring`, `mooring_internal` and `mooring_jobs`, those that exist. */
  schemas: string[]
  tables: number
  functions: number
  deployments: number
  events: number
  /** The group roles of the cluster. */
  roles: string[]
  /** The database's own search_path, where it names `mooring`. */
  search_path: string | null
  /** What a session would have without that setting. */
  server_search_path: string
  owns_schemas: boolean
  owns_database: boolean
  /** Live agents and workers, and owners whose lease runs, in words. */
  running: string[]
  /** Silent nodes that own work which a lost lease does not end. */
  may_still_run: string[]
  /** Objects outside the schemas that a drop would take along, in words. */
  dependents: string[]
}

/** One connection. All that it changes is one transaction. */
export interface UninstallSession {
  installed(): Promise<Installed>
  /** Begins the transaction and, where there are tables, keeps everything else out of them. */
  begin(withTables: boolean): Promise<void>
  drop(order: DropOrder): Promise<void>
  commit(): Promise<void>
  rollback(): Promise<void>
  close(): Promise<void>
}

export interface DropOrder {
  schemas: readonly string[]
  roles: readonly string[]
  /** `alter database ...`, or null. */
  searchPathLine: string | null
}

export async function openUninstallSession(
  url: DatabaseUrl,
  settings: Record<string, string>,
): Promise<UninstallSession> {
  const client = new pg.Client(
    pgConfig(url, { application_name: 'mooring migrate', options: settingOptions(settings) }),
  )
  client.on('error', () => {}) // the next statement rejects with it
  await client.connect()
  const names = (list: readonly string[]): string => list.map(pg.escapeIdentifier).join(', ')
  return {
    async installed() {
      const { rows } = await client.query<CatalogRow>(CATALOG)
      const [row] = rows
      if (!row) throw new Error('the database does not know itself')
      // without a finished migration there is nothing that could run
      const readable = row.complete && row.owns_schemas
      const contents = readable ? await client.query<ContentsRow>(CONTENTS) : undefined
      return { ...row, ...(contents?.rows[0] ?? EMPTY) }
    },
    async begin(withTables) {
      await client.query('begin')
      if (!withTables) return
      await client.query(
        'lock table mooring.deployment, mooring.assignment, mooring.heartbeat, ' +
          'mooring_internal.worker in access exclusive mode',
      )
    },
    async drop({ schemas, roles, searchPathLine }) {
      if (schemas.length > 0) await client.query(`drop schema ${names(schemas)} cascade`)
      if (searchPathLine) await client.query(searchPathLine)
      if (roles.length > 0) await client.query(`drop role ${names(roles)}`)
    },
    commit: async () => void (await client.query('commit')),
    rollback: async () => void (await client.query('rollback').catch(() => {})),
    close: () => client.end().catch(() => {}),
  }
}

type ContentsRow = Pick<Installed, 'deployments' | 'events' | 'running' | 'may_still_run'>
type CatalogRow = Omit<Installed, keyof ContentsRow>

const EMPTY: ContentsRow = { deployments: 0, events: 0, running: [], may_still_run: [] }

const SCHEMAS = `array['mooring', 'mooring_internal', 'mooring_jobs']`

// An object is ours when its schema is, or that of the table it stands on. A table that is named in
// a publication would leave it without a word, so the publication counts as dependent.
const CATALOG = `
  with recursive ours as (
    select 'pg_catalog.pg_namespace'::regclass::oid as classid, n.oid as objid, true as is_ours,
           null::text as named
      from pg_catalog.pg_namespace n
     where n.nspname = any (${SCHEMAS})
    union
    select d.classid, d.objid, home.is_ours,
           case
             when home.is_ours then null
             when a.type like 'publication %' then 'publication ' || a.object_args[1]
             when a.type = 'rule' then (
               select pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, r.ev_class, 0)
                 from pg_catalog.pg_rewrite r
                where r.oid = d.objid)
             else i.type || ' ' || i.identity
           end
      from ours
      join pg_catalog.pg_depend d on d.refclassid = ours.classid and d.refobjid = ours.objid
     cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
     cross join lateral pg_catalog.pg_identify_object_as_address(
                          d.classid, d.objid, d.objsubid) a
     cross join lateral (
             select a.type = 'default acl'
                 or a.type not like 'publication %'
                    and coalesce(i.schema, a.object_names[1]) = any (${SCHEMAS} || 'pg_toast'::text)
                    as is_ours) home
     where ours.is_ours
  )
  select pg_catalog.current_database()::text as database,
         (select count(*) = 2
            from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where (n.nspname, c.relname) in (
                   ('mooring', 'deployment'), ('mooring_internal', 'worker'))) as complete,
         array(select n.nspname::text
                 from pg_catalog.pg_namespace n
                where n.nspname = any (${SCHEMAS})
                order by n.nspname) as schemas,
         (select count(*)::int
            from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where n.nspname = any (${SCHEMAS}) and c.relkind in ('r', 'p')) as tables,
         (select count(*)::int
            from pg_catalog.pg_proc p
            join pg_catalog.pg_namespace n on n.oid = p.pronamespace
           where n.nspname = any (${SCHEMAS})) as functions,
         array(select r.rolname::text
                 from pg_catalog.pg_roles r
                where r.rolname in (
                        'mooring_agent', 'mooring_operator', 'mooring_viewer', 'mooring_workload')
                order by r.rolname) as roles,
         (select substr(c.setting, 13)
            from pg_catalog.pg_database d
            join pg_catalog.pg_db_role_setting s on s.setdatabase = d.oid and s.setrole = 0
           cross join unnest(s.setconfig) as c(setting)
           where d.datname = pg_catalog.current_database()
             and c.setting like 'search\\_path=%') as search_path,
         (select coalesce(
                   (select f.setting
                      from pg_catalog.pg_settings f
                     where f.name = 'search_path' and f.source in (
                             'configuration file', 'command line', 'environment variable')),
                   f.boot_val)
            from pg_catalog.pg_settings f
           where f.name = 'search_path') as server_search_path,
         coalesce(
           (select bool_and(pg_catalog.pg_has_role(n.nspowner, 'usage'))
              from pg_catalog.pg_namespace n
             where n.nspname = any (${SCHEMAS})), true) as owns_schemas,
         (select pg_catalog.pg_has_role(d.datdba, 'usage')
            from pg_catalog.pg_database d
           where d.datname = pg_catalog.current_database()) as owns_database,
         array(select distinct o.named
                 from ours o
                where not o.is_ours
                order by o.named) as dependents`

const CONTENTS = `
  select (select count(*)::int from mooring.deployment) as deployments,
         (select count(*)::int from mooring.event) as events,
         array(
           select pg_catalog.format('agent %s', n.name)
             from mooring.node n
             join mooring.heartbeat h on h.node_id = n.id
            where mooring_internal.node_is_live(h)
               or exists (
                    select from mooring.assignment a
                     where a.node_id = n.id
                       and mooring_internal.lease_end(h, a) > pg_catalog.clock_timestamp())
            union all
           select pg_catalog.format('worker %s', w.id)
             from mooring_internal.worker w
            where mooring_internal.worker_is_alive(w)
            order by 1) as running,
         array(
           select distinct n.name::text
             from mooring.node n
             join mooring.heartbeat h on h.node_id = n.id and h.session is not null
             join mooring.assignment a on a.node_id = n.id
             join mooring.deployment d on d.id = a.deployment_id
            where d.on_lost = 'keep'
            order by 1) as may_still_run`
