-- locks: advisory 'placing' (tried; until the end of the transaction)
create or replace function mooring_internal.try_lock_placement() returns boolean
  language sql volatile
return pg_try_advisory_xact_lock(
  mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
comment on function mooring_internal.try_lock_placement() is
  'Takes the right to place until the transaction ends, if no other transaction has it. '
  'Never waits.';
