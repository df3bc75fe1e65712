-- undrain_node: ends a drain, complete or not, and opens the node again. What was ordered to stop
-- goes on to its target; nothing else moves.
-- locks: node
create or replace function mooring.undrain_node(name text) returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(undrain_node.name);
begin
  perform mooring_internal.limit_idle();
  update mooring.node n
     set draining_since = null
   where n.id = node.id and n.draining_since is not null
  returning n.* into node;
  if found then
    perform mooring_internal.add_event('drain_ended', 'by an operator', node.id);
    return node;
  end if;
  return mooring_internal.node_named(undrain_node.name);
end;
$$;
comment on function mooring.undrain_node(text) is
  'Ends the drain of a node and opens it for new work.';
