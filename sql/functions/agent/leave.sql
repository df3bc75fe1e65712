-- leave: an agent that stopped all its processes gives everything back at once and lets go of its name. Daemons stay the node's, unless they are to stop.
-- locks: heartbeat, then assignment (skip locked: what is locked is reaped when the lease is over)
create or replace function mooring.leave(node text, session uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  mine int;
  freed int;
begin
  perform mooring_internal.limit_idle();
  update mooring.heartbeat h set session = null, leaving = false
   where h.node = leave.node and h.session = leave.session and mooring_internal.acts_for(h.role_name)
  returning h.node_id into mine;
  if mine is null then
    perform mooring_internal.raise_session_over(leave.node);
  end if;
  select count(*) into freed
    from (select array_agg(a.id) as ids, array_agg(a.epoch) as epochs from mooring.assignment a where a.node_id = mine and (a.ordinal is not null or a.wanted = 'stop')) o
   cross join lateral mooring_internal.release(o.ids, o.epochs, 'released', 'the agent of its node left');
  perform mooring_internal.add_event('node_left', 'its agent stopped', mine, jsonb_build_object('released', freed));
  return freed;
end;
$$;
comment on function mooring.leave(text, uuid) is 'Graceful end of an agent''s session, after its processes are gone: frees all it owns, returns how many.';
