-- prune_events: deletes events older than setting.event_retention, a bounded batch at a time, and the spent jobs of rounds that failed.
-- locks: none but what it deletes
create or replace function mooring.prune_events() returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  pruned bigint;
begin
  with old as (
    delete from mooring.event e
     where e.id = any (array(select o.id from mooring.event o where o.at < clock_timestamp() - (select s.event_retention from mooring.setting s) order by o.at limit 50000))
    returning 1
  )
  select count(*) into pruned from old;
  delete from mooring.run r
   where r.last_active_at < clock_timestamp() - (select s.event_retention from mooring.setting s)
     and not exists (select from mooring.assignment a where a.id = r.assignment_id);
  begin
    perform graphile_worker.complete_jobs(array(
      select j.id from graphile_worker.jobs j
       where j.task_identifier in ('place', 'reap', 'evict', 'prune') and j.attempts >= j.max_attempts and j.locked_at is null limit 10000));
  exception when others then
    raise warning 'mooring: spent jobs were not cleaned: %', sqlerrm;
  end;
  perform mooring.finish_round('prune');
  return pruned;
end;
$$;
comment on function mooring.prune_events() is 'Deletes events and observations past setting.event_retention; returns how many events.';
