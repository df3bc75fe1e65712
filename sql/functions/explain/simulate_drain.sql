-- simulate_drain: where drain_node() would send what a node runs. It uses the targets and the
-- choice of advance_drains(), in steps of max_moves; each step counts as arrived before the next.
-- What no other node can take stays: to_node is null, and reason says why. Daemons and what is
-- being moved already are left out.
create or replace function mooring.simulate_drain(name text, max_moves int default null)
  returns table (
    assignment_id bigint,
    deployment_id bigint,
    from_node text,
    to_node text,
    reason text
  )
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  source mooring.node := mooring_internal.node_named(simulate_drain.name);
  step int;
  budget int;
  nodes mooring.node_state[] := array(select s from mooring_internal.node_states() s);
  class record;
  batch bigint[];
  deployments bigint[];
  chosen int[] := '{}';
  placed record;
  at int;
begin
  if simulate_drain.max_moves < 1 then
    raise exception using
      errcode = 'MR007',
      message = format('max_moves is %s', simulate_drain.max_moves),
      hint = 'Leave it out for setting.drain_max_moves, or give 1 or more.';
  end if;
  step := coalesce(
    simulate_drain.max_moves,
    source.drain_max_moves,
    (select s.drain_max_moves from mooring.setting s));
  budget := step;
  for class in
    select t.*
      from mooring_internal.drain_targets(source.id) t
     where t.node_ids <> '{}'
  loop
    at := 0;
    while at < cardinality(class.ids) loop
      batch := class.ids[at + 1 : at + budget];
      deployments := array(
        select a.deployment_id
          from unnest(batch) with ordinality u (id, nr)
          join mooring.assignment a on a.id = u.id
         order by u.nr);
      placed := mooring_internal.place_class(
        nodes,
        chosen,
        (class.policy, null, class.node_ids)::mooring_internal.placement_class,
        batch,
        deployments,
        '{}',
        true);
      nodes := placed.nodes_now;
      chosen := placed.chosen;
      return query
        select u.id, u.deployment_id, source.name, n.name, placed.rule
          from unnest(
            batch[1:cardinality(chosen)],
            deployments[1:cardinality(chosen)],
            chosen) u (id, deployment_id, node_id)
          join mooring.node n on n.id = u.node_id;
      at := at + cardinality(chosen);
      if placed.exhausted then
        return query
          select a.id, a.deployment_id, source.name, null::text,
              'the nodes that may run it would be full: add a node or raise max_assignments'
            from unnest(class.ids[at + 1 :]) u (id)
            join mooring.assignment a on a.id = u.id;
        exit;
      end if;
      budget := case
        when cardinality(chosen) = budget then step
        else budget - cardinality(chosen)
      end;
    end loop;
  end loop;
  return query
    select a.id, a.deployment_id, source.name, null::text, b.why
      from mooring_internal.drain_obstacles(source.id) b
     cross join lateral unnest(b.ids) u (id)
      join mooring.assignment a on a.id = u.id;
end;
$$;
comment on function mooring.simulate_drain(text, int) is
  'Where drain_node() would send each assignment of a node. to_node is null where it would stay, '
  'and reason says why. Locks and writes nothing.';
