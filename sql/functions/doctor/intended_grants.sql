create or replace function mooring_internal.intended_grants()
  returns table (role text, privilege text, object text, col text)
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select v.key, 'EXECUTE', p.oid::regprocedure::text, null
    from jsonb_each(mooring_internal.rights_of_roles() -> 'verbs') v
   cross join lateral jsonb_array_elements_text(v.value) n (name)
    join pg_proc p
      on p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
     and p.proname = n.name
  union all
  -- 'select (a, b), update on mooring.x, mooring.y'
  select t.key, upper(m.parts[1]), btrim(o.object)::regclass::text, btrim(c.col)
    from jsonb_each(mooring_internal.rights_of_roles() -> 'tables') t
   cross join lateral jsonb_array_elements_text(t.value) g (grant_of)
   cross join lateral regexp_split_to_table(split_part(g.grant_of, ' on ', 2), ',') o (object)
   cross join lateral regexp_matches(
     split_part(g.grant_of, ' on ', 1), '(\w+)(?: *\(([^)]*)\))?', 'g') m (parts)
    left join lateral regexp_split_to_table(m.parts[2], ',') c (col) on true
  union all
  select 'mooring_viewer', 'SELECT', c.oid::regclass::text, null
    from pg_class c
   where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v';
end;
comment on function mooring_internal.intended_grants() is
  'What set_up_roles() gives to which role, one row for each right.';
