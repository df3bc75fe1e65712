create or replace function mooring.session_node(node text, session uuid) returns int
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node_id int;
  allowed boolean;
begin
  select h.node_id, mooring.acts_for(h.role_name) into node_id, allowed from mooring.heartbeat h where h.node = session_node.node and h.session = session_node.session;
  if allowed is not true then
    perform mooring.session_over(node);
  end if;
  return node_id;
end;
$$;
comment on function mooring.session_node(text, uuid) is 'Id of the node whose name this session holds; raises MR001, MR003 or MR009 otherwise.';
