-- For edits by hand: whether the owner of a row may still run it. Asked as reap() asks, under the heartbeat's row, so that no beat confirms meanwhile what is taken here.
-- locks: heartbeat (skip locked: a beat in flight is a sign of life)
create or replace function mooring_internal.owner_may_run(owned mooring.assignment) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owner mooring.heartbeat;
  held boolean;
begin
  select h.* into owner from mooring.heartbeat h where h.node_id = owned.node_id for update skip locked;
  if not found then
    return exists (select from mooring.heartbeat h where h.node_id = owned.node_id);
  end if;
  held := mooring_internal.notice_outage();
  return held or mooring_internal.lease_end(owner, owned) + (select s.reap_margin from mooring.setting s) >= clock_timestamp();
end;
$$;
comment on function mooring_internal.owner_may_run(mooring.assignment) is 'True while the owner of an assignment may still run it: its lease and the margin are not over, a beat is on its way, or it is a hold. Keeps its heartbeat row locked.';
