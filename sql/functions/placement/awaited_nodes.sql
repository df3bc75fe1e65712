-- Nodes that work which ran before waits for: after everything was away the first agent that came would take all there is, and nothing that runs is moved by itself. So for
-- setting.return_wait from the first that came, work is placed only when those that were there before are. All of it, and not just what ran on them last: where a fleet
-- is stopped host by host, the last one to go had been given everything. Who was lost while another was there is not waited for.
create or replace function mooring_internal.awaited_nodes() returns int[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- asked first: at all other times the first row says that there is nobody to wait for
  if exists (select from mooring.heartbeat l where mooring_internal.node_is_live(l) and l.session_at <= clock_timestamp() - (select s.return_wait from mooring.setting s)) then
    return null;
  end if;
  return (
    select array_agg(n.id order by n.id)
      from mooring.heartbeat h
      join mooring.node n on n.id = h.node_id
     where n.enabled and n.draining_since is null and not mooring_internal.node_is_live(h)
       and h.beat_at < (select min(l.session_at) from mooring.heartbeat l where mooring_internal.node_is_live(l)));
end;
$$;
comment on function mooring_internal.awaited_nodes() is 'Nodes that were gone when the first one came back, while that is less than setting.return_wait ago; null at all other times.';
