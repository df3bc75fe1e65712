-- Which pending rows may return to their last node: those whose cost there is at most
-- setting.sticky_slack above that of the dearest of places, which the window would use anyway.
-- So with a slack of 0 work returns only where that spoils no balance.
-- Rows come in queue order. A replica does not return to a node that has another replica of its
-- deployment. A node gets no more rows than it has room for.
-- Returns the numbers of the rows in the queue; null when no row has an eligible last node.
create or replace function mooring_internal.may_return_to_last_node(
  nodes mooring.node_state[],
  eligible int[],
  in_force mooring.policy,
  places int[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[],
  placed_nodes int[]
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
declare
  wished int[];
  wished_on int[];
  returning_rows int[];
begin
  select array_agg(w.nr), array_agg(w.node_id) into wished, wished_on
    from (select u.nr, u.node_id, u.deployment_id,
              row_number() over (partition by u.deployment_id, u.node_id order by u.nr) as nth
            from unnest(last_nodes, deployments) with ordinality u (node_id, deployment_id, nr)
           where u.nr <= cardinality(places) and u.node_id is not null) w
   where w.node_id = any (eligible)
     and (not replicated
       or w.nth = 1
       and not exists (
         select from mooring.assignment a
          where a.deployment_id = w.deployment_id
            and a.node_id = w.node_id
            and a.handover is distinct from 'leaving')
       and not exists (
         select from unnest(placed_deployments, placed_nodes) p (deployment_id, node_id)
          where p.deployment_id = w.deployment_id and p.node_id = w.node_id));
  if wished is null then
    return null;
  end if;
  execute format($query$
    with wish as (
      select u.nr, u.node_id,
          (row_number() over (partition by u.node_id order by u.nr))::int as k
        from unnest($2, $3) u (nr, node_id)
    ),
    dearest as materialized (
      select coalesce(
          %1$s(s, (select count(*)::int from unnest($4) p (id) where p.id = s.id)) * 100 / s.weight,
          'infinity') as cost
        from unnest($1) s
       where s.id = $4[cardinality($4)]
    )
    select array_agg(w.nr order by w.nr)
      from wish w
      join unnest($1) s on s.id = w.node_id
     cross join dearest d
     where w.k <= coalesce(s.max_assignments - s.assigned, 2147483647)
       and coalesce(%1$s(s, w.k) * 100 / s.weight, 'infinity')
         <= d.cost + (select c.sticky_slack from mooring.setting c)
    $query$, in_force.cost_function)
    into returning_rows
    using nodes, wished, wished_on, places;
  return returning_rows;
end;
$$;
comment on function mooring_internal.may_return_to_last_node(
  mooring.node_state[], int[], mooring.policy, int[], bigint[], int[], boolean, bigint[], int[]) is
  'Numbers of the pending rows whose last node is eligible and within sticky_slack of the places '
  'that would be used anyway.';
