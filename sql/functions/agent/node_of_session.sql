-- Every verb of an agent asks which node this is, whether it is the caller's, and whether the
-- session still holds it. The function reads heartbeat alone, because no change of node may stop a
-- beat. Triggers keep the role in heartbeat too.
create or replace function mooring_internal.node_of_session(node text, session uuid) returns int
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node_id int;
  allowed boolean;
begin
  select h.node_id, mooring_internal.acts_for(h.role_name) into node_id, allowed
    from mooring.heartbeat h
   where h.node = node_of_session.node and h.session = node_of_session.session;
  if allowed is not true then
    perform mooring_internal.raise_session_over(node);
  end if;
  return node_id;
end;
$$;
comment on function mooring_internal.node_of_session(text, uuid) is
  'Id of the node whose name this session holds; raises MR001, MR003 or MR009 otherwise.';
