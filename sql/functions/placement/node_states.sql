-- Every node with its load and its last sample, as policies see it. A node in trouble has less
-- weight, see shares_of_troubled_nodes().
create or replace function mooring_internal.node_states() returns setof mooring.node_state
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    select n.id, n.name,
        n.weight * coalesce(t.share, 1),
        n.max_assignments, coalesce(l.assigned_and_promised, 0),
        h.running, h.cpu_pct, h.memory_mb, h.disk_free_pct
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
      left join mooring_internal.shares_of_troubled_nodes() t on t.node_id = n.id
      left join mooring_internal.assigned_and_promised_per_node() l on l.node_id = n.id
     order by n.id;
end;
$$;
comment on function mooring_internal.node_states() is 'What policies know of each node.';
