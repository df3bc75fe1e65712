-- Every node with its load and last sample, as policies see it. The database clock decides who is live.
create or replace function mooring.node_assigned() returns table (node_id int, assigned int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select l.node_id, sum(l.change)::int from mooring.node_load l group by l.node_id;
end;
$$;
comment on function mooring.node_assigned() is 'How many assignments, daemons not counted, each node owns.';

create or replace function mooring.node_states() returns setof mooring.node_state
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    select n.id, n.name, n.weight, n.max_assignments, coalesce(l.assigned, 0), h.running, h.cpu_pct, h.memory_mb, h.disk_free_pct
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
      left join mooring.node_assigned() l on l.node_id = n.id
     order by n.id;
end;
$$;
comment on function mooring.node_states() is 'What policies are told of each node.';
