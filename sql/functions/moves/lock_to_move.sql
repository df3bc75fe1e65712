-- lock_to_move: the placement lock and the row that is to be moved, both or none.
-- Placement comes first in the order of locks, and nothing is placed while it is held. So when the
-- row is locked (by an uncommitted edit of its deployment, for example), the function releases
-- placement, waits for the row alone, and begins again. It tries for 5 s.
-- locks: placement, then assignment (its row)
create or replace function mooring_internal.lock_to_move(assignment bigint)
  returns mooring.assignment
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
    -- a block that fails releases the locks it took
    begin
      perform mooring_internal.lock_placement(must_wait => true);
      select a.* into row
        from mooring.assignment a
       where a.id = lock_to_move.assignment
         for no key update nowait;
      if row.id is null then
        perform mooring_internal.raise_no_such_assignment(lock_to_move.assignment);
      end if;
      return row;
    exception when lock_not_available then
      null;
    end;
    waited := false;
    begin
      perform set_config(
        'lock_timeout',
        greatest(1, mooring_internal.milliseconds(until - clock_timestamp()))::text,
        true);
      perform from mooring.assignment a
        where a.id = lock_to_move.assignment
          for no key update;
      waited := true;
      raise lock_not_available;
    exception when lock_not_available then
      null;
    end;
    if not waited or clock_timestamp() > until then
      select min(l.pid) into holder
        from mooring.assignment a
        join pg_locks l on l.transactionid = a.xmax and l.granted
       where a.id = lock_to_move.assignment;
      raise exception using
        errcode = 'MR004',
        message = format(
          'assignment %s has been locked by another transaction for more than %s',
          lock_to_move.assignment, patience),
        detail = coalesce(
          format('pid %s holds it', holder),
          'several transactions hold it, or a prepared one'),
        hint = 'That transaction changes the deployment, or assigns a node by hand: '
          || coalesce(
            format(
              'look at it in pg_stat_activity; end it with select pg_terminate_backend(%s).',
              holder),
            'see pg_locks and pg_prepared_xacts.');
    end if;
  end loop;
end;
$$;
comment on function mooring_internal.lock_to_move(bigint) is
  'Takes the placement lock and the row of an assignment. After 5 s it raises MR004, which names '
  'the pid that holds the row. Placement goes on while it waits.';
