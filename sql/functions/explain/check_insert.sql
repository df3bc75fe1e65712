-- Whether the table would take this deployment. The constraints in the catalog judge the row, with
-- the error that an INSERT would raise, in the order of an INSERT. Nothing is inserted and rolled
-- back: that would take locks and ids, wait for others, and fail on a standby.
-- The row comes back with its defaults. Its id is null unless it is given.
create or replace function mooring_internal.check_insert(deployment jsonb)
  returns mooring.deployment
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  defaults jsonb;
  filled mooring.deployment;
  law record;
  broken boolean;
  key text;
begin
  execute (
    select format(
          'select jsonb_build_object(%s)',
          string_agg(format('%L, %s', a.attname, pg_get_expr(d.adbin, d.adrelid)), ', '))
      from pg_attrdef d
      join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
     where d.adrelid = 'mooring.deployment'::regclass and a.attgenerated = '')
    into defaults;
  select d.* into filled
    from jsonb_populate_record(null::mooring.deployment, defaults || check_insert.deployment) d;
  for law in
    select a.attname as name
      from pg_attribute a
     where a.attrelid = 'mooring.deployment'::regclass
       and a.attnum > 0
       and a.attnotnull
       and a.attgenerated = ''
       and not a.attisdropped
       and (a.attidentity = '' or check_insert.deployment ? a.attname)
     order by a.attnum
  loop
    execute format('select ($1).%I is null', law.name) into broken using filled;
    if broken then
      raise exception using
        errcode = '23502',
        message = format(
          'null value in column "%s" of relation "deployment" violates not-null constraint',
          law.name),
        schema = 'mooring',
        table = 'deployment',
        column = law.name,
        hint = format('Leave %s out for its default.', law.name);
    end if;
  end loop;
  for law in
    select c.conname as name, pg_get_expr(c.conbin, c.conrelid) as condition
      from pg_constraint c
     where c.conrelid = 'mooring.deployment'::regclass and c.contype = 'c'
     order by c.conname collate "C"
  loop
    execute format('select (%s) is false from (select ($1).*) d', law.condition)
      into broken
      using filled;
    if broken then
      raise exception using
        errcode = '23514',
        message = format(
          'new row for relation "deployment" violates check constraint "%s"', law.name),
        schema = 'mooring',
        table = 'deployment',
        constraint = law.name;
    end if;
  end loop;
  for law in
    select c.relname as name,
        string_agg(format('d.%1$I = ($1).%1$I', a.attname), ' and ') as same,
        string_agg(a.attname, ', ') as columns,
        string_agg(format('($1).%I', a.attname), ', ') as values
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = 'mooring.deployment'::regclass and i.indisunique
     group by c.relname, i.indexrelid
     order by i.indexrelid
  loop
    execute format(
      'select concat_ws('', '', %s) from mooring.deployment d where %s', law.values, law.same)
      into key
      using filled;
    if key is not null then
      raise exception using
        errcode = '23505',
        message = format('duplicate key value violates unique constraint "%s"', law.name),
        detail = format('Key (%s)=(%s) already exists.', law.columns, key),
        schema = 'mooring',
        table = 'deployment',
        constraint = law.name;
    end if;
  end loop;
  if filled.policy is not null
    and not exists (select from mooring.policy p where p.name = filled.policy)
  then
    raise exception using
      errcode = '23503',
      message = 'insert or update on table "deployment" violates foreign key constraint '
        '"deployment_policy_fkey"',
      detail = format('Key (policy)=(%s) is not present in table "policy".', filled.policy),
      hint = format(
        'There are %s.',
        (select string_agg(p.name, ', ' order by p.name) from mooring.policy p)),
      schema = 'mooring',
      table = 'deployment',
      constraint = 'deployment_policy_fkey';
  end if;
  return filled;
end;
$$;
comment on function mooring_internal.check_insert(jsonb) is
  'The row that an INSERT of these columns would make, or the error that it would raise.';
