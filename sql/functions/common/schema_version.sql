-- Every committed migration raises it by one.
-- Agents and workers refuse a database that is older or newer than the version they know.
create or replace function mooring.schema_version() returns int
  language sql immutable parallel safe
return 1;
comment on function mooring.schema_version() is 'Number of the last migration.';
