// Definitions live in sql/ and reach a database through a migration. Two things can go wrong: a
// definition is changed and forgotten in the migration, or it is not harmless to re-run. Both show
// as a difference between the catalogs.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sql } from 'postgres'
import t from 'tap'
import { testDatabase } from '../helpers/postgres.js'
import { ROOT } from '../helpers/root.js'

const SQL_FOLDER = join(ROOT, 'sql')

t.test('running sql/all.sql again changes nothing in the catalog', async (t) => {
  const { sql, client } = await testDatabase(t)
  const before = await fingerprint(sql)
  t.ok(before.length > 100, 'the fingerprint sees the schema')
  const session = client()
  await session`select set_config('search_path', 'pg_catalog', false)`
  await session.unsafe(included('all.sql'))
  t.strictSame(await fingerprint(sql), before)
})

t.test('the fingerprint notices a changed function, comment and grant', async (t) => {
  const { sql } = await testDatabase(t)
  const before = await fingerprint(sql)
  await sql`create function mooring.stray() returns int language sql immutable return 1`
  await sql`comment on function mooring.stray() is 'stray'`
  await sql`grant select on mooring.node to public`
  const added = (await fingerprint(sql)).filter((line) => !before.includes(line))
  t.match(added.join('\n'), /acl mooring\.node .*\n(.*\n)*comment .*stray\n(.*\n)*function .*stray/)
})

function included(file: string): string {
  return readFileSync(join(SQL_FOLDER, file), 'utf8').replace(
    /^--![ \t]*include[ \t]+(\S+\.sql)[ \t]*$/gm,
    (_line, name: string) => included(name),
  )
}

/** One line per object of our schema: equal lines, equal schema. */
async function fingerprint(sql: Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    with s as (
      select n.oid, n.nspname, n.nspacl
        from pg_namespace n
       where n.nspname in ('mooring', 'mooring_internal')
    ),
    c as (select c.*, s.nspname from pg_class c join s on s.oid = c.relnamespace)
    select line
      from (
        select format('acl schema %s', array(select unnest(s.nspacl)::text order by 1)) as line
          from s
        union all
        select format(
          'default acl %s %s', d.defaclobjtype, array(select unnest(d.defaclacl)::text order by 1)
        )
          from pg_default_acl d
          join s on s.oid = d.defaclnamespace
        union all
        select format(
          'relation %I.%I %s persistence %s options %s', c.nspname, c.relname, c.relkind,
          c.relpersistence, c.reloptions
        )
          from c
         where c.relkind in ('r', 'p', 'v', 'm', 'S')
        union all
        select format(
          'column %I.%I.%I #%s %s%s%s%s', c.nspname, c.relname, a.attname, a.attnum,
          format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end,
          ' default ' || pg_get_expr(d.adbin, d.adrelid),
          ' identity ' || nullif(a.attidentity::text, '')
        )
          from c
          join pg_attribute a on a.attrelid = c.oid
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'c')
        union all
        select format('view %I.%I %s', c.nspname, c.relname, pg_get_viewdef(c.oid))
          from c
         where c.relkind in ('v', 'm')
        union all
        select format('index %s', pg_get_indexdef(i.indexrelid))
          from pg_index i
          join c on c.oid = i.indrelid
        union all
        select format(
          'constraint %s %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)
        )
          from pg_constraint k
          join s on s.oid = k.connamespace
        union all
        select format('function %s %s', p.oid::regprocedure, pg_get_functiondef(p.oid))
          from pg_proc p
          join s on s.oid = p.pronamespace
         where p.prokind in ('f', 'p')
        union all
        select format(
          'acl %s %s', p.oid::regprocedure, array(select unnest(p.proacl)::text order by 1)
        )
          from pg_proc p
          join s on s.oid = p.pronamespace
        union all
        select format('trigger %s %s', t.tgenabled, pg_get_triggerdef(t.oid))
          from pg_trigger t
          join c on c.oid = t.tgrelid
         where not t.tgisinternal
        union all
        select format(
          'policy %s %I %s %s', y.polrelid::regclass, y.polname, pg_get_expr(y.polqual, y.polrelid),
          pg_get_expr(y.polwithcheck, y.polrelid)
        )
          from pg_policy y
          join c on c.oid = y.polrelid
        union all
        select format(
          'type %s %s', t.oid::regtype,
          array(
            select e.enumlabel from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder
          )
        )
          from pg_type t
          join s on s.oid = t.typnamespace
         where t.typtype in ('e', 'd', 'c')
        union all
        select format(
          'acl %I.%I %s', c.nspname, c.relname, array(select unnest(c.relacl)::text order by 1)
        )
          from c
         where c.relkind in ('r', 'v', 'S', 'm', 'p')
        union all
        select format(
          'acl column %s.%I %s', a.attrelid::regclass, a.attname,
          array(select unnest(a.attacl)::text order by 1)
        )
          from c
          join pg_attribute a on a.attrelid = c.oid
         where a.attacl is not null
        union all
        select format(
          'comment %s %s', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
        )
          from pg_description d
         where d.objoid in (
           select c.oid
             from c
           union all
           select p.oid
             from pg_proc p
             join s on s.oid = p.pronamespace
           union all
           select s.oid
             from s
           union all
           select t.oid
             from pg_type t
             join s on s.oid = t.typnamespace
         )
      ) as q
     order by line`
  return rows.map(({ line }) => line)
}
