-- Which server answers. An agent asks with each answer that gives it a right: once a server of a
-- newer timeline has answered, one of an older timeline is deposed, and its answers count nothing.
create or replace function mooring.server_identity(
  out system_identifier text,
  out database_oid text,
  out port int,
  out timeline int,
  out standby boolean
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  system_identifier := mooring_internal.system_identifier()::text;
  database_oid := (select d.oid::text from pg_database d where d.datname = current_database());
  port := current_setting('port')::int;
  timeline := mooring_internal.timeline();
  standby := pg_is_in_recovery();
end;
$$;
comment on function mooring.server_identity() is
  'Which server answers: the number of its cluster, the database, the port, its timeline, and '
  'whether it is a standby. '
  'Null where the server does not tell.';
