create or replace function mooring_internal.assigned_per_node()
  returns table (node_id int, assigned int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select l.node_id, sum(l.change)::int
      from mooring_internal.node_load l
     group by l.node_id;
end;
$$;
comment on function mooring_internal.assigned_per_node() is
  'How many assignments, daemons not counted, each node owns.';
