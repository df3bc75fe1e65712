-- tick: the metronome. Every worker process calls it and sleeps for next_ms. The database lets one
-- caller through for each round that is due. That caller queues the round's job.
-- With inline it runs the round itself, and so it does where the queue of notifications is half
-- full. Agents pass inline when a heartbeat's answer says that rounds are overdue, so placement and
-- failover go on with no worker alive.
-- A worker is dead when it has not ticked for three periods and three seconds. Its graphile-worker
-- locks are freed here; otherwise they would last four hours.
-- The answer carries the database clock. The next tick gives it back with the milliseconds since
-- then on the caller's own clock, so a step of the database clock is noticed.
-- An agent's role ticks only inline, and only as the agent of one of its nodes. While a living
-- worker does the rounds in time, its tick changes nothing. So a stolen agent cannot hold the
-- placement lock. While a worker lives the agent's clock is not believed either, because workers
-- have clocks of their own.
-- locks: worker, round, what the rounds lock, pulse (each skip locked)
create or replace function mooring.tick(
  worker text,
  pool_ids text[] default '{}',
  inline boolean default false,
  last_clock_ms float8 default null,
  since_ms float8 default null
) returns table (rounds text[], next_ms int, hold boolean, clock_ms float8)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- read first, near to when the caller sent it; the reap of this round judges by this very time
  at timestamptz := clock_timestamp();
  period interval := mooring_internal.round_interval('reap');
  in_hold boolean;
  won text[];
  name text;
  dead_pool_ids text[];
  believed boolean := true;
begin
  if not mooring_internal.is_schema_owner() then
    if inline is not true
      or not exists (
        select from mooring.heartbeat h
         where h.role_name = session_user
           and tick.worker in (h.node, 'agent ' || h.node)
           and mooring_internal.node_is_live(h))
    then
      raise exception using
        errcode = 'MR009',
        message = format('role %s may not tick as %s', session_user, left(tick.worker, 70)),
        hint = 'An agent ticks with inline => true, as the node whose lease it holds. '
          'Workers connect as the owner of the schema.';
    end if;
    believed := not exists (
      select from mooring_internal.worker w
       where mooring_internal.worker_is_alive(w));
    if not believed
      and not exists (
        select from mooring_internal.round r
         where r.name in ('reap', 'place') and mooring_internal.round_is_overdue(r))
    then
      in_hold := mooring_internal.notice_outage();
      return query
        select '{}'::text[],
            greatest(20, mooring_internal.milliseconds(period)),
            in_hold,
            extract(epoch from at)::float8 * 1000;
      return;
    end if;
  end if;
  if believed then
    perform mooring_internal.notice_clock_step(tick.last_clock_ms, tick.since_ms, at);
  end if;
  in_hold := mooring_internal.notice_outage();
  perform mooring_internal.limit_idle();
  if not inline then
    update mooring_internal.worker w
       set ticked_at = clock_timestamp(), pool_ids = tick.pool_ids
     where w.id = tick.worker;
    if not found then
      insert into mooring_internal.worker (id, pool_ids)
      values (tick.worker, tick.pool_ids)
      on conflict (id) do nothing;
    end if;
    with gone as (
      delete from mooring_internal.worker w
       where w.id in (
         select l.id
           from mooring_internal.worker l
          where not mooring_internal.worker_is_alive(l)
            for update skip locked)
      returning w.id, w.pool_ids
    ),
    logged as (
      insert into mooring.event (kind, reason, detail)
      select 'worker_lost', 'it has not ticked for three periods',
          jsonb_build_object('worker', g.id)
        from gone g
    )
    select array_agg(p.id) into dead_pool_ids
      from gone g
     cross join lateral unnest(g.pool_ids) p (id);
    if dead_pool_ids is not null then
      perform mooring_jobs.force_unlock_workers(dead_pool_ids);
    end if;
  end if;
  with due as (
    select r.name
      from mooring_internal.round r
     where r.due_at <= at
        or r.due_at > clock_timestamp() + mooring_internal.round_interval(r.name)
        -- A worker may queue the round in time again and again, for a runner that does nothing.
        -- An inline caller therefore goes by what was done.
        or inline and mooring_internal.round_is_overdue(r)
     order by r.name = 'reap' desc, r.name
       for update skip locked
  ),
  won_rounds as (
    update mooring_internal.round r
       set due_at = clock_timestamp() + mooring_internal.round_interval(r.name)
      from due d
     where r.name = d.name
    returning r.name
  )
  select array_agg(t.name order by t.name <> 'reap', t.name <> 'evict', t.name) into won
    from won_rounds t;
  -- a queued job comes with a notification, which must not fail the tick
  inline := inline or not mooring_internal.may_notify();
  foreach name in array coalesce(won, '{}') loop
    begin
      if not inline then
        perform mooring_jobs.add_job(
          name,
          case when name = 'reap' then json_build_object('judged_at', at) end,
          job_key => 'round:' || name,
          job_key_mode => 'preserve_run_at',
          max_attempts => 1);
      else
        case name
          when 'reap' then perform mooring.reap(judged_at => at);
          when 'evict' then perform mooring.evict();
          -- bounded: all of it is one transaction, and a caller that misses its deadline would have
          -- done nothing
          when 'place' then
            perform mooring.claim((select 10 * s.claim_window from mooring.setting s));
          when 'prune' then perform mooring.prune_events();
        end case;
      end if;
    exception when others then
      perform mooring_internal.add_event(
        'round_failed', format('round %s failed: %s', name, sqlerrm));
    end;
  end loop;
  -- last: rounds that take long keep no other caller from writing the pulse, and make it no older
  update mooring_internal.pulse p
     set pulse_at = clock_timestamp()
   where p.only_row = (
     select l.only_row
       from mooring_internal.pulse l
      where l.pulse_at is null
         or l.pulse_at < clock_timestamp() - period / 4
         or l.pulse_at > clock_timestamp()
        for update skip locked);
  -- a round that is still due is in another caller's hands
  return query
    select coalesce(won, '{}'),
        greatest(
          20,
          mooring_internal.milliseconds(
            coalesce(
              min(r.due_at) filter (where r.due_at > clock_timestamp()),
              clock_timestamp() + period)
            - clock_timestamp())),
        in_hold,
        extract(epoch from at)::float8 * 1000
      from mooring_internal.round r;
end;
$$;
comment on function mooring.tick(text, text[], boolean, float8, float8) is
  'Sign of life of a worker, and the start of due rounds: queued as jobs, or run at once with '
  'inline. Returns the rounds won, the milliseconds until the next round is due, whether there is '
  'a hold, and the database clock in milliseconds since 1970. The next tick gives that clock back '
  'as last_clock_ms, with since_ms, the milliseconds that have passed since.';
