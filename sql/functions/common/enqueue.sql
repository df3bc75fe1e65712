-- Asks the workers for a job, once for this transaction. Never fails its caller: when graphile-worker is missing or refuses, the rounds
-- find the work, and the caller gets a WARNING. The key carries the transaction id: a key shared between transactions would be a row
-- lock until commit, and one idle psql would stop everybody's inserts.
create or replace function mooring_internal.enqueue(task text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  perform graphile_worker.add_job(enqueue.task, job_key => enqueue.task || ':' || pg_current_xact_id(), max_attempts => 1);
exception when others then
  raise warning 'mooring: no % job was queued (%); the next round does the work', enqueue.task, sqlerrm;
end;
$$;
comment on function mooring_internal.enqueue(text) is 'Queues one graphile-worker job per transaction; a failure is a WARNING, never an error.';
