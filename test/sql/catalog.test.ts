// The laws for SQL, checked in the catalog: it shows what a database really has, not what the files
// say.
import type { Sql } from 'postgres'
import t from 'tap'
import { testDatabase } from '../helpers/postgres.js'

/** [what must hold for every object, the objects for which it does not] */
const LAWS: [string, string][] = [
  [
    'the schema, every table, view and sequence that is not owned by a column has a comment',
    `
      select c.oid::regclass::text as offender
        from pg_class c
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and c.relkind in ('r', 'p', 'v', 'm')
         and obj_description(c.oid, 'pg_class') is null
      union all
      select 'schema mooring'
       where obj_description('mooring'::regnamespace, 'pg_namespace') is null`,
  ],
  [
    'every column of a table or view has a comment',
    `
      select format('%s.%s', c.oid::regclass, a.attname) as offender
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and c.relkind in ('r', 'p', 'v', 'm')
         and col_description(c.oid, a.attnum) is null`,
  ],
  [
    'every logged table has a key, or says its replica identity, as a publication needs it',
    `
      select c.oid::regclass::text as offender
        from pg_class c
       where c.relnamespace in (
               'mooring'::regnamespace, 'mooring_internal'::regnamespace,
               'mooring_jobs'::regnamespace)
         and c.relkind = 'r'
         and c.relpersistence = 'p'
         and c.relreplident = 'd'
         and not exists (
               select from pg_index i where i.indrelid = c.oid and i.indisprimary)`,
  ],
  [
    'PUBLIC has no rights on our schemas',
    `
      select n.nspname as offender
        from pg_namespace n
       cross join lateral aclexplode(n.nspacl) a
       where n.nspname like 'mooring%' and a.grantee = 0`,
  ],
  [
    'every function has a comment',
    `
      select p.oid::regprocedure::text as offender
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and obj_description(p.oid, 'pg_proc') is null`,
  ],
  [
    'every type has a comment',
    `
      select t.oid::regtype::text as offender
        from pg_type t
        left join pg_class c on c.oid = t.typrelid
       where t.typnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and (t.typtype in ('e', 'd') or (t.typtype = 'c' and c.relkind = 'c'))
         and obj_description(t.oid, 'pg_type') is null`,
  ],
  // a procedure that pinned it could not commit, and commit is what procedures are for
  [
    'every function pins its search_path with pg_temp last, or is one expression that is inlined',
    `
      select p.oid::regprocedure::text as offender
        from pg_proc p
        join pg_language l on l.oid = p.prolang
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and (p.prokind <> 'p' or p.prosecdef)
         and not exists (
           select
             from unnest(p.proconfig) c(setting)
            where c.setting like 'search_path=pg_catalog%' and c.setting like '%, pg_temp'
         )
         -- a polymorphic function can have no standard body
         and not (
           l.lanname = 'sql' and not p.prosecdef
           and (p.prosqlbody is not null or 'anyelement'::regtype = any (p.proargtypes::oid[])))`,
  ],
  [
    'public may not execute a function by default',
    `
      select p.oid::regprocedure::text as offender
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and exists (
           select
             from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
            where g.grantee = 0 and g.privilege_type = 'EXECUTE'
         )`,
  ],
  [
    'public may not write a table by default',
    `
      select c.oid::regclass::text as offender
        from pg_class c
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and c.relkind in ('r', 'p', 'v', 'm')
         and exists (
           select
             from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
            where g.grantee = 0
         )`,
  ],
  [
    'a trigger is named tg_<table>__<task>, with a number before it where the order counts',
    `
      select format('%s on %s', g.tgname, g.tgrelid::regclass) as offender
        from pg_trigger g
        join pg_class c on c.oid = g.tgrelid
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and not g.tgisinternal
         and g.tgname !~ ('^(_\\d{3}_)?tg_' || c.relname || '__[a-z][a-z_]*$')`,
  ],
  [
    'a check constraint is a named sentence',
    `
      select format('%s on %s', k.conname, k.conrelid::regclass) as offender
        from pg_constraint k
       where k.connamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and k.contype = 'c'
         and k.conrelid <> 0
         and k.conname ~ '_check\\d*$'`,
  ],
  [
    'an index is named <table>_<purpose>_idx, or as its constraint',
    `
      select c.oid::regclass::text as offender
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        join pg_class r on r.oid = i.indrelid
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and r.relkind in ('r', 'p')
         and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
         and c.relname not like r.relname || '\\_%\\_idx'`,
  ],
  // a policy is a handful of rows and is deleted by hand, if ever: an index on each reader of it
  // would cost every insert
  [
    'a foreign key has an index that begins with its columns, except one to policy',
    `
      select format('%s on %s', k.conname, k.conrelid::regclass) as offender
        from pg_constraint k
       where k.connamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and k.contype = 'f'
         and k.confrelid <> 'mooring.policy'::regclass
         and not exists (
           select from pg_index i where i.indrelid = k.conrelid and i.indkey[0] = k.conkey[1]
         )`,
  ],
  [
    'no two functions share a name',
    `
      select p.proname::text as offender
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
       group by p.proname
       having count(*) > 1`,
  ],
]

t.test('the catalog keeps the laws', async (t) => {
  const { sql } = await testDatabase(t)
  for (const [law, offenders] of LAWS) t.strictSame(await offendersOf(sql, offenders), [], law)
})

t.test('each law sees an offender', async (t) => {
  const { sql } = await testDatabase(t)
  await sql.unsafe(
    `
      create schema mooring_bad;
      grant usage on schema mooring_bad to public;
      create table mooring.bad (
        id int, other int check (other > 0), node_id int references mooring.node
      );
      create index bad_one on mooring.bad (id);
      create function mooring.bad(a int) returns int language sql as 'select 1';
      create function mooring.bad(a int, b int) returns trigger
        language plpgsql
        security definer
        set search_path = mooring
        as 'begin return null; end';
      create type mooring.bad_type as enum ('a');
      grant execute on function mooring.bad(int) to public;
      grant update on mooring.bad to public;`.replace(
      'mooring.bad(a int, b int) returns trigger',
      'mooring.bad() returns trigger',
    ) +
      `
    create trigger bad_trigger after insert on mooring.bad execute function mooring.bad();`,
  )
  for (const [law, offenders] of LAWS) {
    t.ok(
      (await offendersOf(sql, offenders)).some((offender) => offender.includes('bad')),
      law,
    )
  }
})

async function offendersOf(sql: Sql, query: string): Promise<string[]> {
  const rows = await sql.unsafe<{ offender: string }[]>(
    `select q.offender from (${query}) as q order by 1`,
  )
  return rows.map(({ offender }) => offender)
}

/** One expression each, and not inlined: why. A new function is to inline, or to pin its path. */
const NOT_INLINED: Record<string, string> = {
  'mooring.policy_resource_usage': 'reads the weights from setting',
  'mooring_internal.is_schema_owner': 'reads the owner from the catalog',
  'mooring_internal.label_texts': 'walks the labels',
  'mooring_internal.missing_labels': 'walks the selector',
  'mooring_internal.letter_pairs': 'walks the letters',
  // declared volatile they would inline, but then no view could be planned around them
  'mooring_internal.node_is_held': 'stable, and asks the clock',
  'mooring_internal.node_is_live': 'stable, and asks the clock',
  'mooring_internal.round_is_overdue': 'stable, and asks the clock',
  'mooring_internal.worker_is_alive': 'stable, and asks the clock',
}

t.test('a function of one expression is inlined, says the planner', async (t) => {
  const { sql } = await testDatabase(t)
  const functions = await sql<{ name: string; types: string[] }[]>`
    select format('%s.%s', p.pronamespace::regnamespace, p.proname) as name,
        array(
          select replace(format_type(u.type, null), 'anyelement', 'text')
            from unnest(p.proargtypes::oid[]) with ordinality u (type, nr)
           order by u.nr) as types
      from pg_proc p
      join pg_language l on l.oid = p.prolang and l.lanname = 'sql'
     where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
       and not p.prosecdef
       and not exists (
         select from unnest(p.proconfig) c (setting) where c.setting like 'search_path=%')`
  const called: string[] = []
  for (const { name, types } of functions) {
    const columns = types.map((type, nr) => `null::${type} as c${nr}`).join(', ')
    const args = types.map((_, nr) => `x.c${nr}`).join(', ')
    const plan = await sql.unsafe<{ 'QUERY PLAN': string }[]>(
      // the rows are made at run time, so that no argument is a constant
      `explain (verbose, costs off)
       select ${name}(${args}) from (select ${columns || '1'} from pg_class offset 0) x`,
    )
    const text = plan.map((line) => line['QUERY PLAN']).join('\n')
    if (text.includes(`${name.replace('mooring.', '')}(`)) called.push(name)
  }
  t.ok(functions.length > 20, `${functions.length} functions`)
  t.strictSame(called.sort(), Object.keys(NOT_INLINED).sort())
})
