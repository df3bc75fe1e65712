-- A workload calls it in its own transaction before it writes what must be written only once.
-- It passes MOORING_ASSIGNMENT_ID and MOORING_EPOCH from its environment.
-- It raises MR005 unless the caller still owns the assignment under that epoch. Otherwise it holds
-- that fact until the transaction ends, because a change of the epoch waits for its row lock.
-- A zombie cannot stop the failover for ever: its transaction may idle or run a statement only for
-- the rest of the lease, then the server ends it. Until then reap() leaves the row alone and names
-- this pid. A healthy workload that needs longer calls it again, because its lease goes on.
-- locks: assignment (key share)
create or replace function mooring.assert_owner(assignment bigint, epoch bigint) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  remaining interval;
  owner int;
begin
  select a.node_id into owner
    from mooring.assignment a
   where a.id = assert_owner.assignment
     and a.epoch = assert_owner.epoch
     and a.node_id is not null
     for key share;
  if owner is not null then
    -- read after the lock, because the lease may have ended while this waited for it
    select h.beat_at + a.lease_ttl - clock_timestamp() into remaining
      from mooring.assignment a
      join mooring.heartbeat h on h.node_id = a.node_id
     where a.id = assert_owner.assignment
       and a.epoch = assert_owner.epoch
       and a.node_id is not null;
  end if;
  if remaining is null or remaining <= interval '0' then
    raise exception using errcode = 'MR005',
      message = format('assignment %s is not owned under epoch %s any more', assignment, epoch),
      hint = 'Another instance runs or will run. Stop without writing anything.';
  end if;
  perform mooring_internal.limit_idle(remaining);
  perform mooring_internal.limit_transaction(remaining);
end;
$$;
comment on function mooring.assert_owner(bigint, bigint) is
  'Raises MR005 unless the assignment is still owned under this epoch with its lease running, '
  'and keeps it so until the transaction ends.';
