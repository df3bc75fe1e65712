create or replace function mooring_internal.lock_space() returns int
  language sql immutable parallel safe
return 1297043282;
comment on function mooring_internal.lock_space() is
  'First key of Mooring''s advisory locks: the letters MOOR.';
