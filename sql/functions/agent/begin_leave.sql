-- begin_leave: an agent calls it before it stops what it runs. From now on its node gets no new
-- work. Its lease goes on until the last process is gone and leave() gives everything back.
-- locks: heartbeat
create or replace function mooring.begin_leave(node text, session uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  perform mooring_internal.limit_idle();
  update mooring.heartbeat h
     set leaving = true
   where h.node = begin_leave.node
     and h.session = begin_leave.session
     and mooring_internal.acts_for(h.role_name);
  if not found then
    perform mooring_internal.raise_session_over(begin_leave.node);
  end if;
end;
$$;
comment on function mooring.begin_leave(text, uuid) is
  'The agent is stopping: no new work for its node.';
