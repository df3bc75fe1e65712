-- Asks the workers for a job, at most once a transaction.
-- It never fails its caller. When graphile-worker is missing or refuses, the caller gets a WARNING
-- and the next round finds the work.
-- Without a worker the rounds of the agents do the work, and jobs would only pile up, one for each
-- transaction: a hundred are enough for the worker that comes.
-- The job key contains the transaction id. A key shared between transactions would be a row lock
-- until commit, so one idle psql would block the inserts of every other session.
create or replace function mooring_internal.enqueue(task text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if not mooring_internal.may_notify() then
    return;
  end if;
  if not exists (
      select from mooring_internal.worker w
       where mooring_internal.worker_is_alive(w))
    and (
      select count(*)
        from (
          select
            from mooring_jobs.jobs j
           where j.task_identifier = enqueue.task
             and j.locked_at is null
           limit 100) waiting) = 100
  then
    return;
  end if;
  perform mooring_jobs.add_job(
    enqueue.task,
    job_key => enqueue.task || ':' || pg_current_xact_id(),
    max_attempts => 1);
exception when others then
  raise warning 'mooring: no % job was queued (%); the next round does the work',
    enqueue.task, sqlerrm;
end;
$$;
comment on function mooring_internal.enqueue(text) is
  'Queues one graphile-worker job per transaction; a failure is a WARNING, never an error.';
