-- Jobs in mooring_jobs that stand still. Those of a dead worker stay locked for four hours, and
-- tick() frees only those of workers that have ticked.
create or replace function mooring_internal.doctor_jobs(has_worker boolean)
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 2
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  grace interval := 3 * mooring_internal.round_interval('reap') + interval '3 s';
  locked record;
  waiting record;
begin
  select count(*) as jobs,
      array_agg(distinct j.locked_by) as lockers,
      max(asked_at - j.locked_at) as oldest
    into locked
    from mooring_jobs.jobs j
   where j.locked_at < asked_at - grace
     and j.task_identifier in ('place', 'reap', 'evict', 'prune')
     and not exists (
       select from mooring_internal.worker w
        where mooring_internal.worker_is_alive(w) and j.locked_by = any (w.pool_ids));
  return query
    select 'job locks',
        case when locked.jobs = 0 then 'ok' else 'problem' end,
        case
          when locked.jobs = 0 then 'none of a dead worker'
          else format(
            '%s jobs are locked by workers that do not tick (%s), the oldest for %s',
            locked.jobs,
            mooring_internal.abbreviate_list(locked.lockers),
            mooring_internal.format_duration(locked.oldest))
        end,
        case
          when locked.jobs > 0
            then format('select mooring_jobs.force_unlock_workers(%L);', locked.lockers)
        end;
  select count(*) as jobs, max(asked_at - j.run_at) as oldest into waiting
    from mooring_jobs.jobs j
   where j.run_at < asked_at - interval '30 s'
     and j.locked_at is null
     and j.attempts < j.max_attempts
     and j.task_identifier in ('place', 'reap', 'evict', 'prune');
  return query
    select 'job queue',
        case when waiting.jobs = 0 or not has_worker then 'ok' else 'warning' end,
        case
          when waiting.jobs = 0 then 'no job waits'
          else format(
            '%s jobs are due for up to %s%s',
            waiting.jobs,
            mooring_internal.format_duration(waiting.oldest),
            case
              when has_worker then ''
              else ', and wait for a worker; the rounds run without them'
            end)
        end,
        case
          when waiting.jobs > 0 and has_worker
            then 'restart the workers; their log says why they run no job'
        end;
end;
$$;
comment on function mooring_internal.doctor_jobs(boolean) is
  'Theme of doctor(): jobs in mooring_jobs that no worker will run. has_worker: whether a '
  'worker is alive.';
