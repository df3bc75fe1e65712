/** `mooring uninstall`: what an install and its use put into a database goes, and nothing else. */
import t from 'tap'
import type { Test } from 'tap'
import type { Sql } from 'postgres'
import { migrate } from '../../../postgres/migrate/migrate.js'
import { uninstall } from '../../../postgres/migrate/uninstall.js'
import { createWorker } from '../../../workers/runner.js'
import pino from 'pino'
import { deployments, node } from '../../helpers/factories.js'
import { login } from '../../helpers/logins.js'
import { ownServer } from '../../helpers/own-server.js'
import { emptyDatabase, testDatabase } from '../../helpers/postgres.js'
import { mooring } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

const CATALOGS = [
  'pg_namespace',
  'pg_class',
  'pg_attribute',
  'pg_proc',
  'pg_type',
  'pg_constraint',
  'pg_trigger',
  'pg_rewrite',
  'pg_policy',
  'pg_depend',
  'pg_shdepend',
  'pg_description',
  'pg_default_acl',
  'pg_init_privs',
  'pg_event_trigger',
  'pg_extension',
  'pg_publication',
  'pg_publication_rel',
  'pg_publication_namespace',
  'pg_largeobject_metadata',
  'pg_statistic_ext',
]

/** Every row of the catalogue, but for the figures that autovacuum moves. */
async function catalogue(sql: Sql): Promise<Record<string, string[]>> {
  const rows: Record<string, string[]> = {}
  for (const name of CATALOGS) {
    const where =
      name === 'pg_shdepend'
        ? 'where c.dbid = (select oid from pg_database where datname = current_database())'
        : ''
    const found = await sql.unsafe<{ row: string }[]>(`
      select (to_jsonb(c) - array['relpages', 'reltuples', 'relallvisible', 'relallfrozen',
                                  'relfrozenxid', 'relminmxid', 'relhasindex'])::text as row
        from pg_catalog.${name} c ${where}
       order by 1`)
    rows[name] = found.map(({ row }) => row)
  }
  const settings = await sql<{ row: string }[]>`
    select s.setrole || ' ' || s.setconfig::text as row
      from pg_db_role_setting s
      join pg_database d on d.oid = s.setdatabase
     where d.datname = current_database()
     order by 1`
  rows['settings'] = settings.map(({ row }) => row)
  return rows
}

/** What an application has that knows nothing of Mooring. */
async function application(sql: Sql): Promise<void> {
  await sql.unsafe(`
    create table public.deployment (id int primary key, mooring text);
    create view public.live as select id from public.deployment;
    create function public.mooring() returns int language sql as 'select 1';
    create function public.on_ddl() returns event_trigger language plpgsql as 'begin end';
    create event trigger their_ddl_${(await nameOf(sql)).replace(/\W/g, '_')}
      on sql_drop execute function public.on_ddl();
    create publication theirs for all tables;
    create schema "Mooring";
    create table "Mooring".deployment (id int);
    comment on table public.deployment is 'theirs'`)
}

const nameOf = async (sql: Sql): Promise<string> =>
  (await sql<{ name: string }[]>`select current_database()::text as name`)[0]?.name ?? ''

const agreed = { roles: false, confirm: async () => {} }

t.test('the catalogue is afterwards as it was before, and migrate works again', async (t) => {
  const { url, name, sql } = await emptyDatabase(t)
  await application(sql)
  await sql.unsafe(`alter database ${name} set search_path = "$user", public, "Mooring, x"`)
  const before = await catalogue(sql)
  for (let nr = 0; nr < 2; nr++) {
    await migrate({ databaseUrl: url })
    const path = `"$user", public, "Mooring, x", mooring`
    await sql.unsafe(`alter database ${name} set search_path = ${path}`)
    await use(t, url, sql)
    t.match(await uninstall({ databaseUrl: url, ...agreed }), {
      schemas: ['mooring', 'mooring_internal', 'mooring_jobs'],
      deployments: 3,
      searchPath: 'set',
    })
    const after = await catalogue(sql)
    for (const part of Object.keys(before)) t.strictSame(after[part], before[part], part)
  }
  t.equal(await uninstall({ databaseUrl: url, ...agreed }), null, 'a second one has nothing to do')
})

t.test('a search_path that migrate alone had set is reset', async (t) => {
  const { url, sql } = await emptyDatabase(t)
  const before = await catalogue(sql)
  await migrate({ databaseUrl: url })
  t.match(await uninstall({ databaseUrl: url, ...agreed }), { searchPath: 'reset' })
  t.strictSame((await catalogue(sql))['settings'], before['settings'])
})

/** Places work by a real worker, as a fleet does, and ends it. */
async function use(t: Test, url: string, sql: Sql): Promise<void> {
  const worker = createWorker({ databaseUrl: url, log: pino({ level: 'silent' }) })
  worker.start()
  t.teardown(() => worker.stop())
  await node(sql, { name: 'host-a' })
  await deployments(sql, 3)
  await waitFor(
    async () =>
      (await sql`select from mooring.assignment a where a.node_id is not null`).length === 3,
    { label: 'the worker places' },
  )
  await t.rejects(uninstall({ databaseUrl: url, ...agreed }), {
    code: 'STILL_RUNNING',
    message: /agent host-a, worker /,
    hint: /SIGTERM/,
  })
  await worker.stop()
  await t.rejects(uninstall({ databaseUrl: url, ...agreed }), {
    code: 'STILL_RUNNING',
    message: /agent host-a$/,
  })
  await sql`update mooring.heartbeat set beat_at = now() - interval '1 hour'`
}

t.test('objects of the application that depend on ours are named, and nothing goes', async (t) => {
  const { url, sql } = await testDatabase(t)
  await sql.unsafe(
    `
    create view public.ours as select d.id from mooring.deployment d;
    create view public.second as select * from public.ours;
    create table public.invoice (
      deployment bigint references mooring.deployment,
      owner mooring.deployment,
      free text default mooring.schema_version()::text)`,
  )
  await sql.unsafe(`create publication "of ours" for table mooring.deployment`)
  const before = await catalogue(sql)
  const error = await uninstall({ databaseUrl: url, ...agreed }).then(
    () => undefined,
    (thrown: Error) => thrown,
  )
  t.match(error, { code: '2BP01', hint: /drop or change them/ })
  for (const named of [
    'view public.ours',
    'table constraint invoice_deployment_fkey on public.invoice',
    'table column public.invoice.owner',
    'default value for public.invoice.free',
    'publication of ours',
  ])
    t.ok(error?.message.includes(named), `${named}: ${error?.message ?? ''}`)
  t.strictSame(await catalogue(sql), before)
  await sql.unsafe(`
    drop publication "of ours"; drop view public.second, public.ours; drop table public.invoice`)
  t.ok(await uninstall({ databaseUrl: url, ...agreed }))
})

t.test('an agent that comes while the question stands is seen', async (t) => {
  const { url, sql } = await testDatabase(t)
  await t.rejects(
    uninstall({
      databaseUrl: url,
      roles: false,
      confirm: async () => void (await node(sql, { name: 'host-a' })),
    }),
    { code: 'STILL_RUNNING' },
  )
  t.equal((await sql`select from mooring.node`).length, 1)
})

t.test('a login that does not own the schemas, and roles that others use', async (t) => {
  const database = await testDatabase(t)
  await testDatabase(t)
  const operator = await login(t, database, ['mooring_operator'])
  await t.rejects(uninstall({ databaseUrl: operator.url, ...agreed }), {
    code: '42501',
    hint: /ran `mooring migrate`/,
  })
  await t.rejects(uninstall({ databaseUrl: database.url, ...agreed, roles: true }), {
    code: '2BP01',
    hint: /leave out --roles/,
  })
  t.equal((await database.sql`select from mooring.setting`).length, 1, 'nothing was changed')
})

t.test('the command asks, tells what goes, and takes the roles where it is told', async (t) => {
  const { url, sql } = await ownServer(t)
  const silent = mooring(t, ['uninstall'], { databaseUrl: url })
  t.equal((await silent.exited).code, 2)
  t.match(silent.stderr(), /schemas mooring, mooring_internal, mooring_jobs: \d+ tables/)
  t.match(silent.stderr(), /these roles of the cluster stay/)
  t.match(silent.stderr(), /add --yes/)
  t.equal((await sql`select from mooring.setting`).length, 1)
  const told = mooring(t, ['uninstall', '--yes', '--roles'], { databaseUrl: url })
  t.equal((await told.exited).code, 0, told.stderr())
  t.match(told.stderr(), /alter database "?\w+"? reset search_path/)
  t.match(told.stdout(), /^Mooring is gone from /)
  const left = await sql`
    select rolname as name from pg_roles where rolname like 'mooring\\_%'
     union all
    select nspname from pg_namespace where nspname like 'mooring%'`
  t.strictSame([...left], [])
  const again = mooring(t, ['uninstall', '--yes', '--json'], { databaseUrl: url })
  t.equal((await again.exited).code, 0)
  t.equal(again.stdout().trim(), 'null')
})
