-- Takes the right to place, until the transaction ends. A transaction that gives a replica a node
-- holds this lock, so that loads are exact. A daemon's row is born with its node and counts for no
-- load, so it needs no lock.
-- One transaction places, and at most one waits without must_wait. For every other it returns
-- false at once: the waiting one takes its first snapshot after the lock and sees their rows.
-- A caller with work that no other transaction does passes must_wait.
-- The wait is bounded: MR004 names the holder. The server ends a holder that idles.
-- locks: advisory 'waiting to place' (only during the wait),
--   advisory 'placing' (until the end of the transaction)
create or replace function mooring_internal.lock_placement(
  must_wait boolean default false
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  patience interval;
  patience_ms text;
  lock_timeout_before text := current_setting('lock_timeout');
  holder int;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'MR008',
      message = 'placement needs isolation level read committed',
      hint = 'Every step has to see what was committed before it: '
        'begin the transaction without another isolation level.';
  end if;
  select s.placement_lock_timeout into patience from mooring.setting s;
  patience_ms := greatest(1, round(extract(epoch from patience) * 1000))::text;
  if not mooring_internal.try_lock_placement() then
    if not must_wait and not pg_try_advisory_lock(
      mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place')) then
      return false;
    end if;
    begin
      perform set_config('lock_timeout', patience_ms, true);
      perform pg_advisory_xact_lock(
        mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
      -- first of all, before any statement that could be cancelled: this lock belongs to the
      -- session, which would keep it
      if not must_wait then
        perform pg_advisory_unlock(
          mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      perform set_config('lock_timeout', lock_timeout_before, true);
    exception when others or query_canceled then
      if not must_wait then
        perform pg_advisory_unlock(
          mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      if sqlstate <> '55P03' then
        raise;
      end if;
      holder := mooring_internal.placement_lock_holder();
      raise exception using errcode = 'MR004',
        message = format(
          'placement has been held by another transaction for more than %s', patience),
        detail = format('pid %s holds it', holder),
        hint = format('Look at it in pg_stat_activity; '
          'end it with select pg_terminate_backend(%s).', holder);
    end;
  end if;
  perform mooring_internal.limit_idle(patience);
  perform mooring_internal.require_durable_commit();
  return true;
end;
$$;
comment on function mooring_internal.lock_placement(boolean) is
  'Takes the right to place until the transaction ends; false when another transaction already '
  'waits and will see the caller''s rows.';
