-- next_epoch: the epoch after this one. Whatever raises an epoch asks here. The timeline of the write-ahead log is its high part: a promoted standby may lack
-- the last claims of its primary, and counting on from what it has would hand out their numbers a second time. On timeline 1 epochs are 1, 2, 3.
-- After pg_upgrade or a restored dump the server is on timeline 1 again: counting goes on from what is there, and promotions are told apart only from where timelines pass it (doctor: epochs).
-- The timeline is read from the log that is being written: pg_control_checkpoint() tells of a promotion only after the next checkpoint.
-- It costs some microseconds, so whoever raises many asks once, next_epoch(0), and takes greatest(epoch + 1, that): the same number.
create or replace function mooring_internal.next_epoch(epoch bigint) returns bigint
  language sql volatile
return greatest(epoch, (('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint - 1) << 40) + 1;
comment on function mooring_internal.next_epoch(bigint) is 'The epoch that follows this one: one more, and above everything an earlier timeline of the same cluster can have handed out.';
