-- lock_to_move: the right to place and the row that is to be moved, both or none. Placement comes first in the order of locks, and nobody places while it is held: so who
-- finds the row locked (an edit of its deployment that is not committed) lets go of placement, waits for the row, and begins again, for 5 s at most.
-- locks: placement, then assignment (its row)
create or replace function mooring_internal.lock_to_move(assignment bigint) returns mooring.assignment
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  patience constant interval := '5 s';
  until constant timestamptz := clock_timestamp() + patience;
  row mooring.assignment;
  waited boolean;
  holder int;
begin
  loop
    -- what is locked in a block that fails is free again
    begin
      perform mooring_internal.lock_placement(must_wait => true);
      select a.* into row from mooring.assignment a where a.id = lock_to_move.assignment for no key update nowait;
      if row.id is null then
        perform mooring_internal.raise_no_such_assignment(lock_to_move.assignment);
      end if;
      return row;
    exception when lock_not_available then
      null;
    end;
    waited := false;
    begin
      perform set_config('lock_timeout', greatest(1, mooring_internal.milliseconds(until - clock_timestamp()))::text, true);
      perform from mooring.assignment a where a.id = lock_to_move.assignment for no key update;
      waited := true;
      raise lock_not_available;
    exception when lock_not_available then
      null;
    end;
    if not waited or clock_timestamp() > until then
      select min(l.pid) into holder from mooring.assignment a join pg_locks l on l.transactionid = a.xmax and l.granted where a.id = lock_to_move.assignment;
      raise exception using errcode = 'MR004', message = format('assignment %s has been locked by another transaction for more than %s', lock_to_move.assignment, patience),
        detail = coalesce(format('pid %s holds it', holder), 'several hold it, or a prepared transaction'), hint = 'It changes the deployment, or gives the assignment to somebody: ' || coalesce(format('look at it in pg_stat_activity; end it with select pg_terminate_backend(%s).', holder), 'see pg_locks and pg_prepared_xacts.');
    end if;
  end loop;
end;
$$;
comment on function mooring_internal.lock_to_move(bigint) is 'Takes the right to place and the row of an assignment; MR004 names who holds the row for too long. Nobody is kept from placing meanwhile.';
