-- simulate_drain: where drain_node() would send what a node runs. It uses the targets, the budget
-- and the choice of advance_drains(), in steps of max_moves. Each step counts as arrived, and
-- running, before the next.
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
  classes mooring_internal.placement_class[] := '{}';
  class record;
  -- what is left, with the number of its class, and what of it has other replicas
  waiting bigint[] := '{}';
  class_of int[] := '{}';
  replicas bigint[];
  -- what steps before have moved, and what this one moves
  arrived bigint[] := '{}';
  moving bigint[];
  placed_deployments bigint[] := '{}';
  placed_nodes int[] := '{}';
  batch bigint[];
  deployments bigint[];
  chosen int[];
  placed record;
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
  for class in
    select t.*
      from mooring_internal.drain_targets(source.id) t
     where t.node_ids <> '{}'
  loop
    classes := classes
      || (class.policy, null, class.node_ids)::mooring_internal.placement_class;
    waiting := waiting || class.ids;
    class_of := class_of || array_fill(cardinality(classes), array[cardinality(class.ids)]);
  end loop;
  replicas := array(
    select a.id
      from mooring.assignment a
      join mooring.deployment d on d.id = a.deployment_id
     where a.id = any (waiting) and d.replicas > 1);
  loop
    budget := step;
    moving := '{}';
    -- full nodes are no targets, and the choosiest class goes first, as in drain_targets()
    for class in
      select c.policy, o.node_ids, w.ids
        from (
          select u.nr, array_agg(u.id order by u.id) as ids
            from unnest(waiting, class_of) u (id, nr)
           group by u.nr) w
       cross join lateral (select (classes[w.nr]).policy, (classes[w.nr]).node_ids) c
       cross join lateral (
         select array(
             select s.id
               from unnest(nodes) s
              where s.id = any (c.node_ids)
                and s.assigned < coalesce(s.max_assignments, 2147483647)
              order by s.id) as node_ids) o
       where o.node_ids <> '{}'
       order by cardinality(o.node_ids), w.ids[1]
    loop
      exit when budget = 0;
      batch := class.ids;
      if batch && replicas then
        batch := mooring_internal.within_budget(batch, arrived, moving);
      end if;
      batch := array(select u.id from unnest(batch) u (id) order by u.id limit budget);
      continue when batch = '{}';
      deployments := array(
        select a.deployment_id
          from unnest(batch) with ordinality u (id, nr)
          join mooring.assignment a on a.id = u.id
         order by u.nr);
      placed := mooring_internal.place_class(
        nodes,
        '{}',
        (class.policy, null, class.node_ids)::mooring_internal.placement_class,
        batch,
        deployments,
        '{}',
        true,
        placed_deployments,
        placed_nodes);
      chosen := placed.chosen;
      continue when chosen = '{}';
      batch := batch[1:cardinality(chosen)];
      return query
        select u.id, u.deployment_id, source.name, n.name, placed.rule
          from unnest(batch, deployments[1:cardinality(chosen)], chosen)
            u (id, deployment_id, node_id)
          join mooring.node n on n.id = u.node_id;
      nodes := mooring_internal.with_load(nodes, chosen);
      placed_deployments := placed_deployments || deployments[1:cardinality(chosen)];
      placed_nodes := placed_nodes || chosen;
      moving := moving || batch;
      budget := budget - cardinality(chosen);
    end loop;
    exit when moving = '{}';
    arrived := arrived || moving;
    select coalesce(array_agg(u.id order by u.o), '{}'),
        coalesce(array_agg(u.nr order by u.o), '{}')
      into waiting, class_of
      from unnest(waiting, class_of) with ordinality u (id, nr, o)
     where u.id <> all (moving);
  end loop;
  return query
    select a.id, a.deployment_id, source.name, null::text,
        case
          when a.id = any (mooring_internal.within_budget(waiting, arrived)) then
            'the nodes that may run it would be full: add a node or raise max_assignments'
          else 'too few other replicas of it run: it stays until they do'
        end
      from mooring.assignment a
     where a.id = any (waiting);
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
