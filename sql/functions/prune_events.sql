-- prune_events: deletes events older than setting.event_retention and ownerships that ended before, a bounded batch of each at a time, the log requests nobody reads, and
-- the spent jobs of rounds that failed. What an assignment's newest row says is never deleted while somebody owns it; that nobody does, is when nothing stands before it.
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
  with past as materialized (
    select p.assignment_id, p.epoch
      from (select clock_timestamp() - s.event_retention as cutoff from mooring.setting s) r
      join mooring.ownership p on p.began_at < r.cutoff
     -- by the primary key: without statistics the index of times would be read for each row
     where (select min(n.began_at) from mooring.ownership n where n.assignment_id = p.assignment_id and n.epoch > p.epoch) < r.cutoff
        or p.node_id is null and p.epoch = (select min(b.epoch) from mooring.ownership b where b.assignment_id = p.assignment_id)
     limit 50000
  )
  delete from mooring.ownership o using past p where o.assignment_id = p.assignment_id and o.epoch = p.epoch;
  delete from mooring.run r
   where r.last_active_at < clock_timestamp() - (select s.event_retention from mooring.setting s)
     and not exists (select from mooring.assignment a where a.id = r.assignment_id);
  perform mooring.forget_log_requests();
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
comment on function mooring.prune_events() is 'Deletes events, observations and past ownerships older than setting.event_retention; returns how many events.';
