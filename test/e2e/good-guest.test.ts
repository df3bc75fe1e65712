/** In the database of an application with customs of its own: from migrate to a delete. */
import t from 'tap'
import postgres from 'postgres'
import { migrate } from '../../postgres/migrate/migrate.js'
import { placements, running } from '../agent/fleet.js'
import { deployment } from '../helpers/factories.js'
import { testServer } from '../helpers/server.js'
import { waitFor } from '../helpers/wait-for.js'
import { alive, hosts, live, PATIENCE_MS } from './hosts.js'

t.test('odd names, a deployment table, event triggers, default privileges', async (t) => {
  const server = await testServer()
  const name = `test_${process.pid}_Our "Shop"#1`
  const role = `test_${process.pid}_Its "Owner"#1`
  await server.admin.unsafe(`create role ${quoted(role)} superuser login password 'pw'`)
  await server.admin.unsafe(`create database ${quoted(name)} owner ${quoted(role)}`)
  const settings = {
    default_transaction_isolation: 'serializable',
    statement_timeout: '200ms',
    idle_session_timeout: '500ms',
    DateStyle: 'German',
    IntervalStyle: 'sql_standard',
    TimeZone: 'Asia/Kathmandu',
    bytea_output: 'escape',
  }
  for (const [setting, value] of Object.entries(settings))
    await server.admin.unsafe(`alter role ${quoted(role)} set ${setting} = '${value}'`)
  const url = Object.assign(new URL(server.urlOf('x')), {
    username: encodeURIComponent(role),
    password: 'pw',
    pathname: `/${encodeURIComponent(name)}`,
  }).href
  const sql = postgres(server.urlOf('x'), { database: name, max: 2, onnotice() {} })
  t.teardown(async () => {
    await sql.end({ timeout: 1 })
    await server.admin.unsafe(`drop database if exists ${quoted(name)} with (force)`)
    await server.admin.unsafe(`drop role if exists ${quoted(role)}`)
    await server.release()
  })
  await sql.unsafe(`
    create table public.deployment (id int primary key, name text);
    create schema "Their Schema";
    create table public.ddl (tag text);
    create function public.note() returns event_trigger language plpgsql as
      'begin insert into public.ddl values (tg_tag); end';
    create event trigger "Their DDL" on ddl_command_end execute function public.note();
    create publication theirs for all tables;
    alter default privileges for role ${quoted(role)} grant all on tables to public;
    alter default privileges for role ${quoted(role)} revoke execute on functions from public`)
  t.match(await migrate({ databaseUrl: url }), { searchPath: 'left' })
  t.ok((await sql`select from public.ddl`).length > 0, 'their trigger saw the migration')

  const fleet = hosts(t, url)
  fleet.worker()
  fleet.agent('host-a')
  await live(sql, 'host-a')
  const id = await deployment(sql, { name: 'web', command: 'sleep', args: ['1000'] })
  const [instance] = await running(sql, 1, PATIENCE_MS)
  t.ok(alive(instance?.pid ?? null))
  await sql`delete from mooring.deployment d where d.id = ${id}`
  await waitFor(async () => (await placements(sql)).length === 0, {
    label: 'it is stopped and gone',
    timeoutMs: PATIENCE_MS,
  })
  t.notOk(alive(instance?.pid ?? null))
  t.equal((await sql`select from public.deployment`).length, 0)
})

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
