create or replace function mooring_internal.raise_session_over(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  holder mooring.heartbeat;
begin
  select h.* into holder
    from mooring.heartbeat h
   where h.node = raise_session_over.node;
  if holder.node_id is not null then
    if not mooring_internal.acts_for(holder.role_name) then
      perform mooring_internal.raise_not_your_node(raise_session_over.node);
    end if;
    raise exception using
      errcode = 'MR001',
      message = format('this session of node %s is over', raise_session_over.node),
      hint = 'Stop what it runs, then register a new session.';
  end if;
  if not mooring_internal.is_schema_owner() then
    -- an agent must not learn the names of other nodes
    raise exception using
      errcode = 'MR003',
      message = format('there is no node %s', left(raise_session_over.node, 63)),
      hint = 'Register it first.';
  end if;
  perform mooring_internal.raise_no_such_node(raise_session_over.node);
end;
$$;
comment on function mooring_internal.raise_session_over(text) is
  'Raises MR009 for a node of another role, MR001 for a session that no longer holds the name. '
  'Raises MR003 for a node that does not exist.';
