create or replace function mooring_internal.write_outage_marker() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.outage_marker (database_oid, system_identifier)
  select d.oid, mooring_internal.system_identifier()
    from pg_database d
   where d.datname = current_database()
  on conflict (only_row) do update
     set database_oid = excluded.database_oid,
         system_identifier = excluded.system_identifier;
end;
comment on function mooring_internal.write_outage_marker() is
  'Writes the outage marker: from now on an empty one means a new outage.';
