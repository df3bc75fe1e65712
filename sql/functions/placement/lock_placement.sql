-- Placement is serialised, so that loads are exact, without letting a forgotten psql stop it: one transaction places, at most one waits, and
-- everybody else is told to go home, because the one that waits takes its first snapshot after the lock and will see their rows.
-- The wait is bounded (MR004 names the holder), and a transaction that holds the lock and goes idle is ended by the server.
-- Whoever gives a replica a node holds this lock; a daemon's row is made with its node, counts for no load, and needs none. Returns false for "somebody else will do your work"; who has other work says must_wait.
-- locks: advisory 'waiting to place' (only while waiting), advisory 'placing' (until the end of the transaction)
create or replace function mooring_internal.lock_placement(must_wait boolean default false) returns boolean
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
    raise exception using errcode = 'MR008', message = 'placement needs isolation level read committed', hint = 'Every step has to see what was committed before it: begin the transaction without another isolation level.';
  end if;
  select s.placement_lock_timeout into patience from mooring.setting s;
  patience_ms := greatest(1, round(extract(epoch from patience) * 1000))::text;
  if not mooring_internal.try_lock_placement() then
    if not must_wait and not pg_try_advisory_lock(mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place')) then
      return false;
    end if;
    begin
      perform set_config('lock_timeout', patience_ms, true);
      perform pg_advisory_xact_lock(mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
      -- before anything that could be cancelled: this one is the session's, and would be kept
      if not must_wait then
        perform pg_advisory_unlock(mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      perform set_config('lock_timeout', lock_timeout_before, true);
    exception when others or query_canceled then
      if not must_wait then
        perform pg_advisory_unlock(mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      if sqlstate <> '55P03' then
        raise;
      end if;
      holder := mooring_internal.placement_lock_holder();
      raise exception using errcode = 'MR004', message = format('placement has been held by another transaction for more than %s', patience),
        detail = format('pid %s holds it', holder), hint = format('Look at it in pg_stat_activity; end it with select pg_terminate_backend(%s).', holder);
    end;
  end if;
  perform mooring_internal.limit_idle(patience);
  perform mooring_internal.require_durable_commit();
  return true;
end;
$$;
comment on function mooring_internal.lock_placement(boolean) is 'Takes the right to place until the transaction ends; false when another transaction already waits and will see the caller''s rows.';
