-- A promoted standby has the one of its old primary; a restored dump has another.
create or replace function mooring_internal.system_identifier() returns bigint
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if has_function_privilege('pg_control_system()', 'execute') then
    return (select c.system_identifier from pg_control_system() c);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.system_identifier() is
  'The number of the database cluster; null where the server does not tell, as managed ones may.';
