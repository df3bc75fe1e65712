-- Who may act for a node: the database role its name is bound to (node.role_name: the one that first registered it), and whoever owns the schema. Asked of
-- session_user, the login: inside a verb current_user is the owner, and SET ROLE changes nothing of it.
create or replace function mooring.is_owner() returns boolean
  language sql stable
return pg_has_role(session_user, (select s.nspowner from pg_namespace s where s.nspname = 'mooring'), 'member');
comment on function mooring.is_owner() is 'True for the role that owns the schema, its members, and superusers.';
