-- assert_owner: a workload calls it in its own transaction, with the MOORING_ASSIGNMENT_ID and MOORING_EPOCH of its environment, before it writes what must be
-- written once. Raises MR005 unless the caller still owns the assignment, and holds that fact until the transaction ends: a change of
-- epoch waits for it. A zombie that was cut off in the middle cannot stop the failover for ever: the transaction may sit idle only for what is left
-- of the lease, then the server ends it; until then reap() leaves the row alone and names this pid.
-- locks: assignment (key share)
create or replace function mooring.assert_owner(assignment bigint, epoch bigint) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  remaining interval;
  owner int;
begin
  select a.node_id into owner from mooring.assignment a where a.id = assert_owner.assignment and a.epoch = assert_owner.epoch and a.node_id is not null for key share;
  if owner is not null then
    -- read after the lock: while it was waited for, the lease may have ended
    select h.beat_at + a.lease_ttl - clock_timestamp() into remaining
      from mooring.assignment a join mooring.heartbeat h on h.node_id = a.node_id
     where a.id = assert_owner.assignment and a.epoch = assert_owner.epoch and a.node_id is not null;
  end if;
  if remaining is null or remaining <= interval '0' then
    raise exception using errcode = 'MR005', message = format('assignment %s is not owned under epoch %s any more', assignment, epoch),
      hint = 'Another copy runs or will run. Stop without writing anything.';
  end if;
  perform mooring_internal.limit_idle(remaining);
end;
$$;
comment on function mooring.assert_owner(bigint, bigint) is 'Raises MR005 unless the assignment is still owned under this epoch with its lease running, and keeps it so until the transaction ends.';
