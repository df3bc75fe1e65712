create or replace function mooring_internal.node_named(name text) returns mooring.node
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node mooring.node;
begin
  select n.* into node
    from mooring.node n
   where n.name = node_named.name;
  if node.id is null then
    perform mooring_internal.raise_no_such_node(node_named.name);
  end if;
  return node;
end;
$$;
comment on function mooring_internal.node_named(text) is
  'The node of that name; raises MR003 with the nearest names where there is none.';
