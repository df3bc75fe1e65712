-- The policy that decides for the given nodes. A policy that knows the cost of none of them is
-- replaced by its fallback, and so on; the last one is deployment_count, which knows every cost.
-- So a fleet whose samples fail still fills.
create or replace function mooring_internal.policy_in_force(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignment bigint
) returns mooring.policy
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  in_force mooring.policy;
  tried text[] := '{}';
  known boolean;
begin
  select p.* into strict in_force
    from mooring.policy p
   where p.name = policy_in_force.policy;
  while in_force.kind <> 'none'
    and in_force.name <> 'deployment_count'
    and cardinality(eligible) > 0
  loop
    execute format(
      'select exists (select from unnest($1) s %s where s.id = any ($2) and %s is not null)',
      case in_force.kind
        when 'affinity' then 'cross join ('
          'select a as assignment from mooring.assignment a where a.id = $3) a'
        else '' end,
      in_force.cost_function
        || case in_force.kind when 'affinity' then '(s, a.assignment)' else '(s, 1)' end)
      into known
      using nodes, eligible, assignment;
    exit when known;
    tried := tried || in_force.name;
    select p.* into strict in_force
      from mooring.policy p
     where p.name = case when in_force.fallback = any (tried) then 'deployment_count'
                         else coalesce(in_force.fallback, 'deployment_count') end;
  end loop;
  return in_force;
end;
$$;
comment on function
  mooring_internal.policy_in_force(mooring.node_state[], int[], text, bigint) is
  'A policy, or its fallback where it knows the cost of none of the eligible nodes.';
