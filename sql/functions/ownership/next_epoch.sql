-- The epoch after the given one. Every statement that raises an epoch uses it.
-- The high part is the timeline of the write-ahead log, because a promoted standby may lack the
-- last claims of its primary: counting on from its own rows would give out their epochs twice.
-- On timeline 1 epochs are 1, 2, 3. See README.md for pg_upgrade, restored dumps, and the source
-- of the timeline. Where the server does not tell it, epochs only count on.
-- A call takes some microseconds. A statement that raises many epochs calls next_epoch(0) once and
-- uses greatest(epoch + 1, that), which is the same number.
create or replace function mooring_internal.next_epoch(epoch bigint) returns bigint
  language sql volatile
return greatest(
  epoch,
  coalesce(mooring_internal.timeline() - 1, 0)::bigint << 40) + 1;
comment on function mooring_internal.next_epoch(bigint) is
  'The epoch that follows this one: one more, and above every epoch that an earlier timeline of '
  'the same cluster can have given out.';
