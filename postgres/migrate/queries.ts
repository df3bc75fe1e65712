import { Socket } from 'node:net'
import pg from 'pg'
import { answerWithin } from '../deadline.js'
import { pgConfig, type DatabaseUrl } from '../database-url.js'
import type { CommittedMigration } from './committed-migrations.js'

/** The statements around a migration, on one connection. It holds the migration lock while open. */
export interface MigrationSession {
  /** Waits until no other host migrates this database. Calls onWait once when it has to wait. */
  lock(onWait: () => void): Promise<void>
  /** The rows of mooring_internal.migration, in order; none where the table does not exist. */
  appliedMigrations(): Promise<AppliedMigration[]>
  /** The sessions that make `applicationName` wait for a lock at this moment, in words. */
  blockersOf(applicationName: string): Promise<string[]>
  searchPathState(): Promise<SearchPathState>
  setSearchPath(line: string): Promise<void>
  /** Makes the group roles and their grants. Resolves with what could not be done. */
  setUpRoles(): Promise<string[]>
  close(): Promise<void>
}

export interface AppliedMigration {
  filename: string
  hash: string
}

export interface SearchPathState {
  database: string
  /** As in a new session, without settings of single roles. */
  search_path: string
  has_mooring: boolean
  /** A table `deployment` of another schema that would be found first. */
  other_deployment: string | null
}

export async function openMigrationSession(url: DatabaseUrl): Promise<MigrationSession> {
  const { connectionTimeoutMillis = 0, ...config } = pgConfig(url, {
    application_name: 'mooring migrate: lock',
  })
  const socket = new Socket()
  const client = new pg.Client({ ...config, stream: () => socket })
  client.on('error', () => {}) // the next statement rejects with it
  // the driver's own timeout would say "timeout expired" and nothing else
  await answerWithin(connectionTimeoutMillis, client.connect()).catch((error: unknown) => {
    socket.destroy()
    throw error
  })
  return {
    async lock(onWait) {
      // a hash of a text, so that the number has an origin; advisory locks are per database
      const key = `pg_catalog.hashtextextended('mooring migrate', 0)`
      const { rows } = await client.query<{ locked: boolean }>(
        `select pg_catalog.pg_try_advisory_lock(${key}) as locked`,
      )
      if (rows[0]?.locked) return
      onWait()
      await client.query(`select pg_catalog.pg_advisory_lock(${key})`)
    },
    async appliedMigrations() {
      const { rows } = await client.query<{ there: boolean }>(
        `select pg_catalog.to_regclass('mooring_internal.migration') is not null as there`,
      )
      if (!rows[0]?.there) return []
      const applied = await client.query<AppliedMigration>(
        'select m.filename, m.hash from mooring_internal.migration m order by m.filename',
      )
      return applied.rows
    },
    async blockersOf(applicationName) {
      const { rows } = await client.query<{ blocker: string }>(BLOCKERS, [applicationName])
      return rows.map(({ blocker }) => blocker)
    },
    async searchPathState() {
      const { rows } = await client.query<SearchPathState>(SEARCH_PATH)
      if (!rows[0]) throw new Error('the database does not know itself')
      return rows[0]
    },
    async setSearchPath(line) {
      await client.query(`set lock_timeout = '500ms'`)
      await client.query(line)
    },
    async setUpRoles() {
      await client.query(`set lock_timeout = '500ms'`)
      const { rows } = await client.query<{ problem: string }>(
        'select r.problem from mooring.set_up_roles() r',
      )
      return rows.map(({ problem }) => problem)
    },
    close: () => client.end().catch(() => {}),
  }
}

/** One file and the note that it ran, in one transaction, rolled back when `signal` aborts. */
export async function runMigration(
  config: pg.ClientConfig,
  { filename, hash, body }: CommittedMigration,
  signal?: AbortSignal,
): Promise<void> {
  const client = new pg.Client(config)
  client.on('error', () => {}) // the statement rejects with it
  const end = (): Promise<void> => client.end().catch(() => {})
  signal?.addEventListener('abort', end, { once: true })
  try {
    await client.connect()
    await client.query('begin')
    await client.query(body)
    await client.query('insert into mooring_internal.migration (filename, hash) values ($1, $2)', [
      filename,
      hash,
    ])
    await client.query('commit')
  } finally {
    signal?.removeEventListener('abort', end)
    // without a commit the server rolls back
    await end()
  }
}

const BLOCKERS = `
  select pg_catalog.format(
           'pid %s (%s%s, %s for %s s)',
           b.pid,
           coalesce(nullif(b.application_name, ''), 'unnamed'),
           coalesce(' of ' || b.usename, ''),
           coalesce(b.state, 'running'),
           extract(epoch from pg_catalog.clock_timestamp() - b.state_change)::int) as blocker
    from pg_catalog.pg_stat_activity w
   cross join lateral unnest(pg_catalog.pg_blocking_pids(w.pid)) as p(pid)
    join pg_catalog.pg_stat_activity b on b.pid = p.pid
   where w.datname = pg_catalog.current_database()
     and w.application_name = $1
   order by b.pid`

// The database's own setting counts, else the server's. A setting of one role is left to that role.
// Schemas are compared as names: quoted and mixed-case entries are read as Postgres reads them.
// "$user" does not count as mooring even for a role of that name: other roles need the tables too.
const SEARCH_PATH = `
  with path as (
    select coalesce(
             (select substr(c.setting, 13)
                from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) as c(setting)
               where s.setdatabase = (
                       select d.oid
                         from pg_catalog.pg_database d
                        where d.datname = pg_catalog.current_database())
                 and s.setrole = 0
                 and c.setting like 'search\\_path=%'),
             (select case
                       when s.source in (
                              'default', 'configuration file', 'command line',
                              'environment variable')
                       then s.setting
                       else s.boot_val
                     end
                from pg_catalog.pg_settings s
               where s.name = 'search_path')) as search_path
  ), entry as (
    select case
             when e.part like '"%"' then replace(substr(e.part, 2, length(e.part) - 2), '""', '"')
             else lower(e.part)
           end as schema
      from path, pg_catalog.regexp_split_to_table(path.search_path, '\\s*,\\s*') as e(part)
  )
  select pg_catalog.current_database()::text as database,
         path.search_path,
         exists (select 1 from entry where entry.schema = 'mooring') as has_mooring,
         (select min(n.nspname || '.' || c.relname)
            from pg_catalog.pg_class c
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where c.relname = 'deployment'
             and c.relkind in ('r', 'p', 'v', 'm', 'f')
             and n.nspname <> 'mooring'
             and n.nspname in (
                   select case entry.schema
                            when '$user' then current_user::text
                            else entry.schema
                          end
                     from entry)) as other_deployment
    from path`
