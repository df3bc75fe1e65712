-- The eligible nodes for the next n assignments: the n cheapest of all (node, k) slots, where k
-- counts a node's further assignments from 1. Returns node ids, cheapest first; fewer than n where
-- room runs out.
-- The cost never falls in k, so a node's slots are used in order, and a few slots per node are
-- enough. When a node uses all of them, the search widens.
-- An unknown cost sorts last. Where the cost of no node is known, the number of assignments
-- decides, so that a fleet whose samples fail still fills evenly.
-- Pure: it reads its arguments and the policy and locks nothing, so explaining and simulating use
-- the same choice.
create or replace function mooring_internal.cheapest_slots(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  n int
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  cost_function text;
  depth int := greatest(4, 2 * ceil(n::float8 / nullif(cardinality(eligible), 0))::int);
  chosen int[];
  deepest int;
  unknown boolean;
begin
  select p.cost_function into strict cost_function
    from mooring.policy p
   where p.name = cheapest_slots.policy;
  loop
    execute format($query$
      with slot as (
        select s.id, k, c.cost * 100 / s.weight as cost,
            (s.assigned + k) * 100 / s.weight as evenly
          from unnest($1) s
         cross join lateral generate_series(1, least(
                 $2,
                 $3,
                 greatest(coalesce(s.max_assignments, 2147483647) - s.assigned, 0))) k
         cross join lateral (select %s(s, k) as cost) c
         where s.id = any ($4)
         order by 3 nulls last, 4, 1
         limit $3)
      select array_agg(slot.id order by slot.cost nulls last, slot.evenly, slot.id),
          max(slot.k),
          bool_and(slot.cost is null)
        from slot
      $query$, cost_function)
      into chosen, deepest, unknown
      using nodes, depth, n, eligible;
    if unknown and cheapest_slots.policy <> 'deployment_count' then
      return mooring_internal.cheapest_slots(nodes, eligible, 'deployment_count', n);
    end if;
    -- a node whose every offered slot was chosen might get more
    exit when chosen is null or deepest < depth or depth >= n;
    depth := depth * 4;
  end loop;
  return coalesce(chosen, '{}');
end;
$$;
comment on function mooring_internal.cheapest_slots(mooring.node_state[], int[], text, int) is
  'The n cheapest places for further assignments under a policy, as node ids, cheapest first.';
