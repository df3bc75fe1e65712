create or replace function mooring_internal.actual_grants()
  returns table (role text, privilege text, object text, col text)
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select coalesce(r.rolname, 'PUBLIC'), g.privilege, g.object, g.col
    from (
      select x.grantee,
          x.privilege_type as privilege,
          p.oid::regprocedure::text as object,
          null::text as col,
          p.proowner as owner
        from pg_proc p
       cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
      union all
      select x.grantee, x.privilege_type, c.oid::regclass::text, null, c.relowner
        from pg_class c
       cross join lateral aclexplode(c.relacl) x
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
      union all
      select x.grantee, x.privilege_type, c.oid::regclass::text, a.attname, c.relowner
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attacl is not null
       cross join lateral aclexplode(a.attacl) x
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)) g
    left join pg_roles r on r.oid = g.grantee
   where g.grantee <> g.owner;
end;
comment on function mooring_internal.actual_grants() is
  'Rights on the objects of the two schemas that roles other than the object''s owner have, one '
  'row for each.';
