create or replace function mooring_internal.raise_not_your_node(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  raise exception using
    errcode = 'MR009',
    message = format(
      'node %s is not bound to role %s',
      left(coalesce(raise_not_your_node.node, 'null'), 63), session_user),
    hint = format(
      'A node belongs to the role that first registered it. An operator may bind it to another '
      'role: update mooring.node set role_name = %L where name = %L; '
      'mooring role create agent prints how to make a role.',
      session_user, left(raise_not_your_node.node, 63));
end;
$$;
comment on function mooring_internal.raise_not_your_node(text) is
  'Raises MR009: the login is not the role to which the node is bound.';
