-- Every node with its load and last sample, as policies see it. The database clock decides who is live.
create or replace function mooring.node_assigned() returns table (node_id int, assigned int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select l.node_id, sum(l.change)::int from mooring.node_load l group by l.node_id;
end;
$$;
comment on function mooring.node_assigned() is 'How many assignments, daemons not counted, each node owns.';
