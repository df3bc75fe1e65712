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

-- Assignments on their way from node to node: few at any time, so they are found by their own index. Without statistics the planner takes
-- them for nearly all rows of the table, and reads it from end to end.
create or replace function mooring.moves() returns table (assignment_id bigint, deployment_id bigint, epoch bigint, node_id int, from_node int, to_node int, stopping boolean, handover text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id, a.epoch, a.node_id, case when a.node_id is not null and a.wanted = 'stop' then a.node_id else a.last_node_id end, a.move_to, a.node_id is not null and a.wanted = 'stop', a.handover
      from mooring.assignment a where a.move_reason is not null;
end;
$$;
comment on function mooring.moves() is 'Assignments that are being moved: still stopping on from_node, waiting (node_id null), or started on node_id and not yet seen running. Start-first: the successor, and then the old copy.';

-- What claim() may not give away twice: what a node owns, and the places kept for moves to it. What is only restarted there is counted once.
create or replace function mooring.node_taken() returns table (node_id int, taken int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select from mooring.moves() m where m.to_node is not null) then
    return query select l.node_id, l.assigned from mooring.node_assigned() l;
    return;
  end if;
  return query
    select u.node_id, sum(u.n)::int
      from (select l.node_id, l.assigned as n from mooring.node_assigned() l union all select m.to_node, 1 from mooring.moves() m where m.to_node is not null and m.to_node is distinct from m.node_id) u
     group by u.node_id;
end;
$$;
comment on function mooring.node_taken() is 'How many assignments, daemons not counted, each node owns or has been promised.';

create or replace function mooring.node_states() returns setof mooring.node_state
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    select n.id, n.name, n.weight, n.max_assignments, coalesce(l.taken, 0), h.running, h.cpu_pct, h.memory_mb, h.disk_free_pct
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
      left join mooring.node_taken() l on l.node_id = n.id
     order by n.id;
end;
$$;
comment on function mooring.node_states() is 'What policies are told of each node.';
