-- The same nodes, with the chosen assignments added to their loads.
create or replace function mooring_internal.with_load(
  nodes mooring.node_state[],
  chosen int[]
) returns mooring.node_state[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays: a generic plan assumes ten elements and joins by
  -- nested loop
  set plan_cache_mode = force_custom_plan
as $$
begin
  return array(
    select (
        s.id, s.name, s.weight, s.max_assignments, s.assigned + coalesce(c.n, 0), s.running,
        s.cpu_pct, s.memory_mb, s.disk_free_pct)::mooring.node_state
      from unnest(nodes) s
      left join (
             select u.id, count(*)::int as n
               from unnest(chosen) u (id)
              group by u.id) c on c.id = s.id
     order by s.id);
end;
$$;
comment on function mooring_internal.with_load(mooring.node_state[], int[]) is
  'Adds chosen assignments to the loads of nodes.';
