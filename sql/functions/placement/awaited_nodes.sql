-- The nodes that work which ran before waits for, after every node was away.
-- Without a wait the first agent back would get all the work, and running work never moves by
-- itself. So such work stays pending until the nodes of before are back, for at most
-- setting.return_wait after the first one came.
-- This holds for all such work, not only for what ran last on the awaited nodes: when a fleet stops
-- host by host, the last host owns everything at the end.
-- A node that was lost while another was live is not awaited.
create or replace function mooring_internal.awaited_nodes() returns int[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- the usual case, decided by the first row: some node has been live for longer than the wait
  if exists (
    select from mooring.heartbeat l
     where mooring_internal.node_is_live(l)
       and l.session_at <= clock_timestamp() - (select s.return_wait from mooring.setting s)) then
    return null;
  end if;
  return (
    select array_agg(n.id order by n.id)
      from mooring.heartbeat h
      join mooring.node n on n.id = h.node_id
     where n.enabled
       and n.draining_since is null
       and not mooring_internal.node_is_live(h)
       and h.beat_at < (
         select min(l.session_at)
           from mooring.heartbeat l
          where mooring_internal.node_is_live(l)));
end;
$$;
comment on function mooring_internal.awaited_nodes() is
  'Nodes that were gone when the first one came back, for as long as that is less than '
  'setting.return_wait ago; null at all other times.';
