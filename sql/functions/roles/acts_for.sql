-- Who may act for a node: the database role its name is bound to (node.role_name: the one that first registered it), and whoever owns the schema. Asked of
-- session_user, the login: inside a verb current_user is the owner, and SET ROLE changes nothing of it.
create or replace function mooring.is_owner() returns boolean
  language sql stable
return pg_has_role(session_user, (select s.nspowner from pg_namespace s where s.nspname = 'mooring'), 'member');
comment on function mooring.is_owner() is 'True for the role that owns the schema, its members, and superusers.';

create or replace function mooring.acts_for(role_name text) returns boolean
  language sql stable
return case when role_name = session_user then true else mooring.is_owner() end;
comment on function mooring.acts_for(text) is 'True when the login may act for a node that is bound to this role (null: to none yet).';

create or replace function mooring.not_your_node(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  raise exception using errcode = 'MR009', message = format('node %s is not bound to role %s', left(coalesce(not_your_node.node, 'null'), 63), session_user),
    hint = format('A node belongs to the role that first registered it. An operator may bind it anew: update mooring.node set role_name = %L where name = %L; or mooring role create agent prints how to make one.', session_user, left(not_your_node.node, 63));
end;
$$;
comment on function mooring.not_your_node(text) is 'Raises MR009: the login is not the role to which the node is bound.';
