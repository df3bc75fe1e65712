-- The marker's two sides: is it there and ours, and write it.
create or replace function mooring.outage_marked() returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return exists (
    select from mooring.outage_marker m
     where m.database_oid = (select d.oid from pg_database d where d.datname = current_database())
       and m.system_identifier = (select c.system_identifier from pg_control_system() c));
end;
$$;
comment on function mooring.outage_marked() is 'False after a crash, a promotion or a restore that nobody has noticed yet.';

create or replace function mooring.mark_outage_seen() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring.outage_marker (database_oid, system_identifier)
  select d.oid, c.system_identifier from pg_database d, pg_control_system() c where d.datname = current_database()
  on conflict (only_row) do update set database_oid = excluded.database_oid, system_identifier = excluded.system_identifier;
end;
comment on function mooring.mark_outage_seen() is 'Writes the outage marker: from now on an empty one means a new outage.';
