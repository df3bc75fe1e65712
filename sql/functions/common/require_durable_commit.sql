-- An order to an agent must survive a crash, whatever synchronous_commit the session prefers.
-- If it did not, the server would give the same id and epoch to another owner after the crash.
-- Until the transaction ends, its commit waits as the database's own setting says.
-- Where that setting is off too, the commit waits for the disk of its own server.
create or replace function mooring_internal.require_durable_commit() returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if current_setting('synchronous_commit') = 'off' then
    set local synchronous_commit to default;
    if current_setting('synchronous_commit') = 'off' then
      perform set_config('synchronous_commit', 'on', true);
    end if;
  end if;
end;
$$;
comment on function mooring_internal.require_durable_commit() is
  'Lets the commit of the current transaction wait for the disk, whatever the session prefers.';
