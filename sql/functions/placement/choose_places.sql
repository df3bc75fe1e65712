-- The policy that decides for given nodes: the one asked for, or where it knows no cost of any of them its fallback, and so on; at last deployment_count,
-- which knows always. So a fleet whose samples fail is still filled.
create or replace function mooring.policy_in_force(nodes mooring.node_state[], eligible int[], policy text, assignment bigint) returns mooring.policy
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  in_force mooring.policy;
  tried text[] := '{}';
  known boolean;
begin
  select p.* into strict in_force from mooring.policy p where p.name = policy_in_force.policy;
  while in_force.kind <> 'none' and in_force.name <> 'deployment_count' and cardinality(eligible) > 0 loop
    execute format('select exists (select from unnest($1) s %s where s.id = any ($2) and %s is not null)',
      case in_force.kind when 'affinity' then 'cross join (select a as assignment from mooring.assignment a where a.id = $3) a' else '' end,
      in_force.cost_function || case in_force.kind when 'affinity' then '(s, a.assignment)' else '(s, 1)' end)
      into known using nodes, eligible, assignment;
    exit when known;
    tried := tried || in_force.name;
    select p.* into strict in_force from mooring.policy p where p.name = case when in_force.fallback = any (tried) then 'deployment_count' else coalesce(in_force.fallback, 'deployment_count') end;
  end loop;
  return in_force;
end;
$$;
comment on function mooring.policy_in_force(mooring.node_state[], int[], text, bigint) is 'A policy, or its fallback where it knows the cost of none of the eligible nodes.';

-- Whose last node is near enough to get them back: the cost there is at most setting.sticky_slack above that of the dearest place that the window would take
-- anyway. So with a slack of 0 work comes home only where that spoils no balance. Rows come in queue order; replicas do not come home to their twin.
-- A node is asked for no more than its room. Returns their numbers in the queue.
create or replace function mooring.comes_home(nodes mooring.node_state[], eligible int[], in_force mooring.policy, places int[], deployments bigint[], last_nodes int[], replicated boolean) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
declare
  wished int[];
  wished_on int[];
  home int[];
begin
  select array_agg(w.nr), array_agg(w.node_id) into wished, wished_on
    from (select u.nr, u.node_id, u.deployment_id, row_number() over (partition by u.deployment_id, u.node_id order by u.nr) as copy
            from unnest(last_nodes, deployments) with ordinality u (node_id, deployment_id, nr)
           where u.nr <= cardinality(places) and u.node_id is not null) w
   where w.node_id = any (eligible)
     and (not replicated or w.copy = 1 and not exists (select from mooring.assignment a where a.deployment_id = w.deployment_id and a.node_id = w.node_id and a.handover is distinct from 'leaving'));
  if wished is null then
    return null;
  end if;
  execute format($query$
    with wish as (
      select u.nr, u.node_id, (row_number() over (partition by u.node_id order by u.nr))::int as k from unnest($2, $3) u (nr, node_id)
    ),
    dearest as materialized (
      select coalesce(%1$s(s, (select count(*)::int from unnest($4) p (id) where p.id = s.id)) * 100 / s.weight, 'infinity') as cost from unnest($1) s where s.id = $4[cardinality($4)]
    )
    select array_agg(w.nr order by w.nr)
      from wish w
      join unnest($1) s on s.id = w.node_id
     cross join dearest d
     where w.k <= coalesce(s.max_assignments - s.assigned, 2147483647)
       and coalesce(%1$s(s, w.k) * 100 / s.weight, 'infinity') <= d.cost + (select c.sticky_slack from mooring.setting c)
    $query$, in_force.cost_function) into home using nodes, wished, wished_on, places;
  return home;
end;
$$;
comment on function mooring.comes_home(mooring.node_state[], int[], mooring.policy, int[], bigint[], int[], boolean) is 'Numbers of the waiting rows whose last node is eligible and within sticky_slack of the places that would be taken anyway.';

-- Where waiting work of one class goes, row by row in queue order: by a policy of kind affinity each where it belongs; by one of kind load first home, as far as that is
-- cheap, the others on the cheapest places. Replicas are kept apart. Fewer than asked for where room runs out. Pure: what claim() writes and what
-- a simulation shows come from here.
create or replace function mooring.choose_places(nodes mooring.node_state[], eligible int[], policy text, assignments bigint[], deployments bigint[], last_nodes int[], replicated boolean) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force mooring.policy := mooring.policy_in_force(nodes, eligible, policy, assignments[1]);
  chosen int[];
  home int[];
  home_on int[];
  others int[];
begin
  if in_force.kind = 'none' then
    return '{}';
  end if;
  if in_force.kind = 'affinity' then
    chosen := mooring.choose_by_affinity(nodes, eligible, in_force.name, assignments);
    return case when replicated and chosen <> '{}' then mooring.spread_replicas(deployments[1:cardinality(chosen)], chosen, nodes, eligible, shuffle => false) else chosen end;
  end if;
  chosen := mooring.choose_nodes(nodes, eligible, in_force.name, cardinality(assignments));
  if chosen <> '{}' and array_remove(last_nodes, null) <> '{}' then
    home := mooring.comes_home(nodes, eligible, in_force, chosen, deployments, last_nodes, replicated);
  end if;
  if home is null then
    return case when replicated and chosen <> '{}' then mooring.spread_replicas(deployments[1:cardinality(chosen)], chosen, nodes, eligible) else chosen end;
  end if;
  home_on := array(select last_nodes[u.nr] from unnest(home) with ordinality u (nr, o) order by u.o);
  others := array(select g.nr from generate_series(1, cardinality(chosen)) g (nr) except all select u.nr from unnest(home) u (nr) order by 1);
  if others = '{}' then
    return home_on;
  end if;
  nodes := mooring.with_load(nodes, home_on);
  chosen := mooring.choose_nodes(nodes, eligible, in_force.name, cardinality(others));
  if replicated then
    chosen := mooring.spread_replicas(array(select deployments[u.nr] from unnest(others) with ordinality u (nr, o) order by u.o), chosen, nodes, eligible,
      array(select deployments[u.nr] from unnest(home) with ordinality u (nr, o) order by u.o), home_on);
  end if;
  return array(select u.node_id from (select h.nr, h.node_id from unnest(home, home_on) h (nr, node_id) union all select o.nr, o.node_id from unnest(others, chosen) o (nr, node_id)) u order by u.nr);
end;
$$;
comment on function mooring.choose_places(mooring.node_state[], int[], text, bigint[], bigint[], int[], boolean) is 'The node for each of the waiting assignments of one class, in queue order; fewer where room runs out.';
