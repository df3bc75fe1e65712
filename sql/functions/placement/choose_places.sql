-- The node for each pending row of one class, in queue order; fewer where room runs out.
-- Under a policy of kind affinity each row goes to its own cheapest node. Under one of kind load
-- rows first return to their last node, where that is cheap enough; the others get the cheapest
-- places. Replicas are kept apart.
-- Pure: what claim() writes and what a simulation shows come from here.
-- placed_*: replicas that a simulation has placed before, which no table knows of.
create or replace function mooring_internal.choose_places(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignments bigint[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[] default '{}',
  placed_nodes int[] default '{}'
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force mooring.policy :=
    mooring_internal.policy_in_force(nodes, eligible, policy, assignments[1]);
  chosen int[];
  -- numbers in the queue: rows that return to their last node, and the others
  returning_rows int[];
  returning_to int[];
  others int[];
begin
  if in_force.kind = 'none' then
    return '{}';
  end if;
  if in_force.kind = 'affinity' then
    chosen := mooring_internal.choose_by_affinity(nodes, eligible, in_force.name, assignments);
    return case when replicated and chosen <> '{}'
                then mooring_internal.spread_replicas(
                  deployments[1:cardinality(chosen)],
                  chosen,
                  nodes,
                  eligible,
                  placed_deployments,
                  placed_nodes,
                  shuffle => false)
                else chosen end;
  end if;
  chosen := mooring_internal.cheapest_slots(
    nodes, eligible, in_force.name, cardinality(assignments));
  if chosen <> '{}' and array_remove(last_nodes, null) <> '{}' then
    returning_rows := mooring_internal.may_return_to_last_node(
      nodes,
      eligible,
      in_force,
      chosen,
      deployments,
      last_nodes,
      replicated,
      placed_deployments,
      placed_nodes);
  end if;
  if returning_rows is null then
    return case when replicated and chosen <> '{}'
                then mooring_internal.spread_replicas(
                  deployments[1:cardinality(chosen)],
                  chosen,
                  nodes,
                  eligible,
                  placed_deployments,
                  placed_nodes)
                else chosen end;
  end if;
  returning_to := array(
    select last_nodes[u.nr]
      from unnest(returning_rows) with ordinality u (nr, o)
     order by u.o);
  others := array(
    select g.nr
      from generate_series(1, cardinality(chosen)) g (nr)
    except all
    select u.nr
      from unnest(returning_rows) u (nr)
     order by 1);
  if others = '{}' then
    return returning_to;
  end if;
  nodes := mooring_internal.with_load(nodes, returning_to);
  chosen := mooring_internal.cheapest_slots(nodes, eligible, in_force.name, cardinality(others));
  if replicated then
    chosen := mooring_internal.spread_replicas(
      array(select deployments[u.nr] from unnest(others) with ordinality u (nr, o) order by u.o),
      chosen,
      nodes,
      eligible,
      placed_deployments || array(
        select deployments[u.nr]
          from unnest(returning_rows) with ordinality u (nr, o)
         order by u.o),
      placed_nodes || returning_to);
  end if;
  return array(
    select u.node_id
      from (select h.nr, h.node_id
              from unnest(returning_rows, returning_to) h (nr, node_id)
            union all
            select o.nr, o.node_id
              from unnest(others, chosen) o (nr, node_id)) u
     order by u.nr);
end;
$$;
comment on function mooring_internal.choose_places(
  mooring.node_state[], int[], text, bigint[], bigint[], int[], boolean, bigint[], int[]) is
  'The node for each of the pending assignments of one class, in queue order; '
  'fewer where room runs out.';
