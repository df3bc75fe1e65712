-- Decides whether the login may act for a node. Two may: the database role to which the node is
-- bound (node.role_name, the role that first registered it), and the owner of the schema. The
-- function asks session_user, the login, because inside a verb current_user is the owner. SET ROLE
-- therefore changes nothing.
create or replace function mooring_internal.acts_for(role_name text) returns boolean
  language sql stable
return case when role_name = session_user then true else mooring_internal.is_schema_owner() end;
comment on function mooring_internal.acts_for(text) is
  'True when the login may act for a node that is bound to this role. null: the node is not bound '
  'yet.';
