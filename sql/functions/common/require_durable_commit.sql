-- What an agent is told to run must survive a crash, whatever the session prefers: else its id and epoch come back as somebody else's. Until the end of the transaction
-- its commit waits as the database would have it, and where the database would have nothing either, for the disk of its own server at least.
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
comment on function mooring_internal.require_durable_commit() is 'Lets the commit of the present transaction wait for the disk, whatever the session prefers.';
