create or replace function mooring.acts_for(role_name text) returns boolean
  language sql stable
return case when role_name = session_user then true else mooring.is_owner() end;
comment on function mooring.acts_for(text) is 'True when the login may act for a node that is bound to this role (null: to none yet).';
