-- Raised by one with every committed migration; agents and workers refuse a database that is older or newer than they know.
create or replace function mooring.schema_version() returns int
  language sql immutable parallel safe
return 1;
comment on function mooring.schema_version() is 'Number of the last migration.';
