-- Why a round failed when it ran last; null when it has succeeded since. A round that a caller of
-- tick() ran itself leaves an event, and one that a worker ran leaves its spent job. Of the history
-- it looks at the end alone. In plpgsql, so that it stands also where mooring_jobs is missing.
create or replace function mooring_internal.round_error(name text) returns text
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  prefix text := format('round %s failed: ', round_error.name);
  done_at timestamptz := (
    select r.done_at
      from mooring_internal.round r
     where r.name = round_error.name);
  failed_at timestamptz;
  error text;
  job record;
begin
  select l.at, substr(l.reason, length(prefix) + 1) into failed_at, error
    from mooring.last_events(1000) l
   where l.kind = 'round_failed' and starts_with(l.reason, prefix) and l.at > done_at
   order by l.at desc
   limit 1;
  if to_regclass('mooring_jobs.jobs') is not null then
    select j.updated_at, j.last_error into job
      from mooring_jobs.jobs j
     where j.task_identifier = round_error.name
       and j.attempts >= j.max_attempts
       and j.last_error is not null
       and j.updated_at > greatest(done_at, failed_at)
     order by j.updated_at desc
     limit 1;
    error := coalesce(job.last_error, error);
  end if;
  return left(split_part(error, chr(10), 1), 300);
end;
$$;
comment on function mooring_internal.round_error(text) is
  'Why a round failed when it ran last; null when it has succeeded since.';
