-- reaping_paused: the circuit breaker of reap(). When more than setting.reap_pause_share of the nodes are silent, it is a network, a firewall or a wrong address
-- more often than so many dead hosts, and moving everything to the few that are left would make it worse: nothing is taken, until they return or
-- an operator says that they are dead (resume_reaping). Said once, in an event and in fleet.reap_paused.
--
-- Counted are nodes that hold a session; a node that left has none. Silent is one whose lease and margin are over, or whose work is so by a shorter lease of
-- its own. A host that is gone for good is a node with a session too: it counts while it owns something that would be taken, and for four leases more, so that
-- hosts that go down one after the other are seen together. Afterwards it is forgotten, else six dead rows in a fleet of ten would stop every failover for ever.
-- While paused they are not forgotten: what is silent has to return, and time alone proves nothing.
-- With nothing to take nothing is paused. A pause ends when the share has fallen; so does what an operator resumed: the next outage pauses anew.
-- locks: reap_pause (skip locked: whoever holds it sees the same)
create or replace function mooring_internal.update_reap_pause(at timestamptz) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  setting mooring.setting;
  pause mooring_internal.reap_pause;
  -- not one record: while the share is off nothing is counted, and to name a field of a record that was never assigned fails, in a branch that is not taken too
  nodes bigint;
  silent bigint;
  owing bigint;
  too_many boolean := false;
begin
  select s.* into setting from mooring.setting s;
  select p.* into pause from mooring_internal.reap_pause p;
  if setting.reap_pause_share is not null then
    select count(*), count(*) filter (where n.silent or n.owes), count(*) filter (where n.owes) into nodes, silent, owing
      from (select h.beat_at + h.lease_ttl + setting.reap_margin < at as silent,
                   h.beat_at + 5 * h.lease_ttl + setting.reap_margin >= coalesce(case when pause.resumed_at is null then pause.paused_at end, at) as recent,
                   -- offset 0: as in reap(), a look at the index for each silent node
                   h.beat_at < at - setting.reap_margin
                     and exists (select from mooring.assignment a where a.node_id = h.node_id and (a.ordinal is not null or a.wanted = 'stop') and mooring_internal.lease_end(h, a) + setting.reap_margin < at offset 0) as owes
              from mooring.heartbeat h where h.session is not null) n
     where n.recent or n.owes;
    too_many := nodes >= setting.reap_pause_min_nodes and silent > setting.reap_pause_share * nodes and (owing > 0 or pause.paused_at is not null);
  end if;
  if too_many and pause.paused_at is null then
    update mooring_internal.reap_pause p
       set paused_at = at, reason = format('%s of %s nodes are silent', silent, nodes)
     where p.only_row = (select l.only_row from mooring_internal.reap_pause l where l.paused_at is null for update skip locked);
    if found then
      perform mooring_internal.add_event('reaping_paused', format('%s of %s nodes are silent, more than %s %%: nothing is taken from them until they return, or somebody calls mooring.resume_reaping()', silent, nodes, round((100 * setting.reap_pause_share)::numeric, 1)),
        detail => jsonb_build_object('silent', silent, 'nodes', nodes, 'owning', owing, 'share', setting.reap_pause_share));
    end if;
  elsif not too_many and pause.paused_at is not null then
    update mooring_internal.reap_pause p
       set paused_at = null, reason = null, resumed_at = null, resumed_by = null
     where p.only_row = (select l.only_row from mooring_internal.reap_pause l where l.paused_at = pause.paused_at for update skip locked);
    if found and pause.resumed_at is null then
      perform mooring_internal.add_event('reaping_resumed', case when setting.reap_pause_share is null then 'setting.reap_pause_share is off' else format('%s of %s nodes are silent', silent, nodes) end,
        detail => case when setting.reap_pause_share is not null then jsonb_build_object('silent', silent, 'nodes', nodes) end);
    end if;
  end if;
  return too_many and pause.resumed_at is null;
end;
$$;
comment on function mooring_internal.update_reap_pause(timestamptz) is 'True while so many nodes are silent that reap() takes nothing; notes the beginning and the end of it.';
