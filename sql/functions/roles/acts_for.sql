-- Who may act for a node: the database role its name is bound to (node.role_name: the one that first registered it), and whoever owns the schema. Asked of
-- session_user, the login: inside a verb current_user is the owner, and SET ROLE changes nothing of it.
create or replace function mooring_internal.acts_for(role_name text) returns boolean
  language sql stable
return case when role_name = session_user then true else mooring_internal.is_schema_owner() end;
comment on function mooring_internal.acts_for(text) is 'True when the login may act for a node that is bound to this role (null: to none yet).';
