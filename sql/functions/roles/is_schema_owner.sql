create or replace function mooring_internal.is_schema_owner() returns boolean
  language sql stable
return pg_has_role(
  session_user,
  (select s.nspowner from pg_namespace s where s.nspname = 'mooring'),
  'member');
comment on function mooring_internal.is_schema_owner() is
  'True for the role that owns the schema, for its members, and for superusers.';
