-- For edits by hand: whether the owner of a row may still run it.
-- It asks as reap() asks, under the lock of the heartbeat row. So no beat confirms in the meantime
-- what the edit takes away.
-- locks: heartbeat (skip locked: a beat in flight is a sign of life)
create or replace function mooring_internal.owner_may_run(
  owned mooring.assignment
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owner mooring.heartbeat;
  in_hold boolean;
begin
  select h.* into owner
    from mooring.heartbeat h
   where h.node_id = owned.node_id
     for update skip locked;
  if not found then
    return exists (select from mooring.heartbeat h where h.node_id = owned.node_id);
  end if;
  in_hold := mooring_internal.notice_outage();
  return in_hold
    or mooring_internal.lease_end(owner, owned) + (select s.reap_margin from mooring.setting s)
       >= clock_timestamp();
end;
$$;
comment on function mooring_internal.owner_may_run(mooring.assignment) is
  'True while the owner of an assignment may still run it: its lease and the margin run, a beat is '
  'in flight, or there is a hold. Keeps the owner''s heartbeat row locked.';
