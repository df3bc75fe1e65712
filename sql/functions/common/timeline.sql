-- The timeline of the write-ahead log that is being written. A promotion raises it.
-- Managed servers refuse some of the functions that tell it, so the rights are asked first.
-- pg_control_checkpoint() comes last: it shows a promotion only after the next checkpoint.
create or replace function mooring_internal.timeline() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  written pg_lsn;
begin
  if pg_is_in_recovery() then
    return null;
  end if;
  if has_function_privilege('pg_current_wal_lsn()', 'execute') then
    written := pg_current_wal_lsn();
  elsif has_function_privilege('pg_current_wal_insert_lsn()', 'execute') then
    written := pg_current_wal_insert_lsn();
  elsif has_function_privilege('pg_current_wal_flush_lsn()', 'execute') then
    written := pg_current_wal_flush_lsn();
  end if;
  if written is not null and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute') then
    return ('x' || left(pg_walfile_name(written), 8))::bit(32)::int;
  elsif has_function_privilege('pg_control_checkpoint()', 'execute') then
    return (select c.timeline_id from pg_control_checkpoint() c);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.timeline() is
  'The timeline of the server; null on a standby, and where the server does not tell.';
