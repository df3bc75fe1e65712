-- leave: an agent that stopped all its processes gives everything back at once and gives up its
-- name. Daemons stay with the node, unless they shall stop. All that shall run stays with a node
-- that is held, see hold_node().
-- locks: heartbeat, then assignment (skip locked: what is locked is reaped when the lease is over)
create or replace function mooring.leave(node text, session uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  own_id int;
  freed int;
  held boolean;
begin
  perform mooring_internal.limit_idle();
  update mooring.heartbeat h
     set session = null, leaving = false, left_at = clock_timestamp()
   where h.node = leave.node
     and h.session = leave.session
     and mooring_internal.acts_for(h.role_name)
  returning h.node_id into own_id;
  if own_id is null then
    perform mooring_internal.raise_session_over(leave.node);
  end if;
  held := exists (
    select from mooring.node n
     where n.id = own_id and mooring_internal.node_is_held(n.held_until));
  select count(*) into freed
    from (
      select array_agg(a.id) as ids, array_agg(a.epoch) as epochs
        from mooring.assignment a
       where a.node_id = own_id
         and (a.ordinal is not null and not held or a.wanted = 'stop')) o
   cross join lateral mooring_internal.release(
     o.ids, o.epochs, 'released', 'the agent of its node left');
  perform mooring_internal.add_event(
    'node_left', 'its agent stopped', own_id, jsonb_build_object('released', freed));
  return freed;
end;
$$;
comment on function mooring.leave(text, uuid) is
  'Graceful end of an agent''s session, after its processes are gone. Frees all that the node owns '
  'and returns how many assignments that were.';
