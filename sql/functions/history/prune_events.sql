-- Deletes, a bounded batch of each at a time:
--   events older than setting.event_retention
--   ownerships that ended before that
--   observations (run) of assignments that no longer exist
--   log requests that no client reads, and spent jobs of rounds that failed
-- The newest ownership of an assignment stays while the assignment has an owner. When it has none,
-- the newest row goes once no older row is left.
-- Why there is no index on times: see README.md.
-- locks: only the rows it deletes
create or replace function mooring.prune_events() returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  cutoff timestamptz := clock_timestamp() - (select s.event_retention from mooring.setting s);
  slice constant int := 8192;
  pages int := pg_relation_size('mooring.ownership') / current_setting('block_size')::int;
  first_page int := slice * floor(random() * ceil(pages::float8 / slice))::int;
  pruned bigint;
begin
  with old as (
    delete from mooring.event e
     where e.id = any (array(
       select o.id
         from (select n.id, n.at from mooring.event n order by n.id limit 50000) o
        where o.at < cutoff))
    returning 1
  )
  select count(*) into pruned from old;
  with past as materialized (
    select p.assignment_id, p.epoch
      from mooring.ownership p
     where p.ctid >= format('(%s,0)', first_page)::tid
       and p.ctid < format('(%s,0)', first_page + slice)::tid
       and p.began_at < cutoff
       -- by the primary key, for each row
       and ((select min(n.began_at)
               from mooring.ownership n
              where n.assignment_id = p.assignment_id and n.epoch > p.epoch) < cutoff
         or p.node_id is null
         and p.epoch = (select min(b.epoch)
                          from mooring.ownership b
                         where b.assignment_id = p.assignment_id))
     limit 50000
  )
  delete from mooring.ownership o
   using past p
   where o.assignment_id = p.assignment_id and o.epoch = p.epoch;
  delete from mooring.run r
   where r.last_active_at < cutoff
     and not exists (select from mooring.assignment a where a.id = r.assignment_id);
  perform mooring_internal.forget_log_requests();
  begin
    perform mooring_jobs.complete_jobs(array(
      select j.id
        from mooring_jobs.jobs j
       where j.attempts >= j.max_attempts
         and j.locked_at is null
       limit 10000));
  exception when others then
    raise warning 'mooring: spent jobs were not cleaned: %', sqlerrm;
  end;
  perform mooring_internal.finish_round('prune');
  return pruned;
end;
$$;
comment on function mooring.prune_events() is
  'Deletes events, observations and past ownerships older than setting.event_retention; '
  'returns the number of events deleted.';
