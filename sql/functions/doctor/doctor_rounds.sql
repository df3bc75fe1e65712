-- Checks that rounds run, and that nothing keeps work from being placed and reaped.
create or replace function mooring_internal.doctor_rounds()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  hold text := mooring_internal.hold_reason();
  -- a transaction that holds the placement lock for longer hangs
  lock_patience interval := greatest(
    2 * (select s.placement_lock_timeout from mooring.setting s), interval '30 s');
  has_agents boolean := exists (
    select from mooring.heartbeat h
     where h.session is not null);
  pulse mooring_internal.pulse;
  pause mooring_internal.reap_pause;
  alive text[];
  late text[];
  oldest interval;
  broken text[];
  holder record;
  failed record;
begin
  select p.* into pulse from mooring_internal.pulse p;
  return query
    select 'schema',
        'ok',
        format(
          'version %s on PostgreSQL %s, database %s%s',
          mooring.schema_version(),
          split_part(current_setting('server_version'), ' ', 1),
          current_database(),
          case
            when pg_is_in_recovery()
              then ': a standby, for reading only; verbs run on the primary'
            else ''
          end),
        null::text;
  return query
    select 'hold',
        case when hold is null then 'ok' else 'warning' end,
        case
          when hold is null then 'none'
          else format(
            'nothing is reaped, placed or newly started until %s: %s',
            coalesce(
              to_char(pulse.hold_until, 'HH24:MI:SS'),
              'a worker or agent ticks, and one lease more'),
            hold)
        end,
        case
          when hold is not null
            then 'wait for it: it ends by itself; select hold, hold_until from mooring.fleet;'
        end;
  select p.* into pause from mooring_internal.reap_pause p;
  return query
    select 'reaping',
        case
          when pause.paused_at is null then 'ok'
          when pause.resumed_at is null then 'problem'
          else 'warning'
        end,
        case
          when pause.paused_at is null then 'not paused'
          when pause.resumed_at is null then format(
            'paused since %s%s: %s; their work is not reaped',
            to_char(pause.paused_at, 'HH24:MI:SS'),
            (
              select ' and until '
                  || to_char(pause.paused_at + s.reap_pause_timeout, 'HH24:MI:SS') || ' at most'
                from mooring.setting s),
            pause.reason)
          when pause.resumed_by is null
            then format('goes on after setting.reap_pause_timeout although %s', pause.reason)
          else format('goes on by order of %s although %s', pause.resumed_by, pause.reason)
        end,
        case
          when pause.paused_at is null then null
          when pause.resumed_at is null
            then 'bring the nodes or their network back; '
              'if the nodes are dead: select mooring.resume_reaping();'
          else 'it ends by itself when enough nodes are back'
        end;
  select array_agg(w.id order by w.id) into alive
    from mooring_internal.worker w
   where mooring_internal.worker_is_alive(w);
  return query
    select 'workers',
        case when alive is null then 'warning' else 'ok' end,
        coalesce(
          cardinality(alive) || ' alive: ' || mooring_internal.abbreviate_list(alive),
          'none is alive' || case when has_agents then ': the agents run the rounds' else '' end),
        case when alive is null then 'mooring worker' end;
  select array_agg(r.name order by r.name),
      max(case when isfinite(r.done_at) then asked_at - r.done_at end)
    into late, oldest
    from mooring_internal.round r
   where r.done_at < asked_at
     - greatest(5 * mooring_internal.round_interval(r.name), interval '15 s');
  select array_agg(format('%s fails: %s', r.name, f.error) order by r.name <> 'place', r.name)
    into broken
    from mooring_internal.round r
   cross join lateral (select mooring_internal.round_error(r.name) as error) f
   where f.error is not null;
  return query
    select 'rounds',
        case
          when broken is not null then 'problem'
          when late is null or hold is not null or pg_is_in_recovery() then 'ok'
          when has_agents and late && '{reap,place}' then 'problem'
          else 'warning'
        end,
        case
          when broken is not null then array_to_string(broken, '; ')
          when late is null then 'all in time'
          when hold is not null then 'late because of the outage before the hold'
          else format(
            'overdue: %s%s',
            mooring_internal.abbreviate_list(late, 4),
            coalesce(
              ', last done ' || mooring_internal.format_duration(oldest) || ' ago',
              ', never done'))
        end,
        case
          when broken is not null
            then 'mend what it says; the round is tried again by itself'
          when late is not null and hold is null
            then 'mooring worker; what made a round fail: '
              'select at, reason from mooring.last_events(1000) where kind = ''round_failed'';'
        end;
  return query select * from mooring_internal.doctor_jobs(alive is not null);
  select l.pid, s.xact_start, s.state, s.application_name into holder
    from (select mooring_internal.placement_lock_holder() as pid) l
    left join pg_stat_activity s on s.pid = l.pid;
  return query
    select 'placement lock',
        case
          when holder.xact_start < asked_at - lock_patience
            then 'problem'
          else 'ok'
        end,
        case
          when holder.pid is null then 'free'
          else format(
            'held by pid %s (%s)%s',
            holder.pid,
            holder.application_name,
            coalesce(
              ' for ' || mooring_internal.format_duration(asked_at - holder.xact_start),
              '; since when is not visible to the owner of the schema'))
        end,
        case
          when holder.xact_start < asked_at - lock_patience
            then format('select pg_terminate_backend(%s);', holder.pid)
        end;
  select count(*) as times,
      (array_agg(e.kind || ': ' || e.reason order by e.id desc))[1] as latest
    into failed
    from (
      select e.*
        from mooring.event e
       order by e.id desc
       limit 2000) e
   where e.kind in ('round_failed', 'claim_failed', 'reap_blocked')
     and e.at > asked_at - interval '10 min';
  return query
    select 'failures',
        case when failed.times = 0 then 'ok' else 'warning' end,
        case
          when failed.times = 0 then 'no round, policy or reap failed in the last 10 min'
          else format(
            '%s in the last 10 min; the last: %s', failed.times, left(failed.latest, 300))
        end,
        case
          when failed.times > 0
            then 'select at, kind, assignment_id, reason from mooring.last_events(2000) '
              'where kind in (''round_failed'', ''claim_failed'', ''reap_blocked'');'
        end;
end;
$$;
comment on function mooring_internal.doctor_rounds() is
  'Theme of doctor(): hold, pause, workers, rounds, jobs, placement lock, failures.';
