-- The marker is an unlogged row, so a crash or a promotion empties it. It names its database and
-- server, so a restored dump does not pass for the original.
create or replace function mooring_internal.outage_marker_is_present() returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return exists (
    select from mooring_internal.outage_marker m
     where m.database_oid = (
         select d.oid
           from pg_database d
          where d.datname = current_database())
       and m.system_identifier is not distinct from mooring_internal.system_identifier());
end;
$$;
comment on function mooring_internal.outage_marker_is_present() is
  'False after a crash, a promotion or a restore that has not been noticed yet.';
