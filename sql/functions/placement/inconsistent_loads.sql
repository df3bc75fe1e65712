-- One transaction changes an owner and node_load together. So within one snapshot no change that
-- is under way makes the two differ.
-- locks: none
create or replace function mooring_internal.inconsistent_loads()
  returns table (node_id int, kept int, counted int)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    select coalesce(l.node_id, c.node_id), coalesce(l.assigned, 0), coalesce(c.assigned, 0)
      from mooring_internal.assigned_per_node() l
      full join (
             select a.node_id, count(*)::int as assigned
               from mooring.assignment a
              where a.node_id is not null and a.ordinal is not null
              group by a.node_id) c on c.node_id = l.node_id
     where coalesce(l.assigned, 0) <> coalesce(c.assigned, 0);
end;
$$;
comment on function mooring_internal.inconsistent_loads() is
  'Nodes whose load in node_load (kept) is not the number of assignments they own (counted); '
  'the evict round mends them.';
