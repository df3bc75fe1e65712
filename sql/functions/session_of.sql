-- The agent's side of every verb: which node is this, and is it still this session's?
create or replace function mooring.session_over(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if exists (select from mooring.node n where n.name = session_over.node) then
    raise exception using errcode = 'MR001', message = format('this session of node %s is over', session_over.node), hint = 'Stop what it runs, then register a new session.';
  end if;
  perform mooring.no_such_node(session_over.node);
end;
$$;
comment on function mooring.session_over(text) is 'Raises MR001 for a session that no longer holds the name, MR003 for a node that does not exist.';

create or replace function mooring.session_node(node text, session uuid) returns int
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node_id int;
begin
  select h.node_id into node_id from mooring.heartbeat h where h.node = session_node.node and h.session = session_node.session;
  if node_id is null then
    perform mooring.session_over(node);
  end if;
  return node_id;
end;
$$;
comment on function mooring.session_node(text, uuid) is 'Id of the node whose name this session holds; raises MR001 or MR003 otherwise.';
