-- release: takes assignments from their owners. The one way out of ownership, used by report (stopped, refused), leave and reap.
-- What becomes of a row is read from its deployment as it is now: pending again, pending and stopped (disabled), or gone (deleted, scaled
-- down, a daemon's). So a deployment deleted and inserted again under the same id simply finds its row waiting once the process is gone.
-- A row held by assert_owner() or a stranger is skipped; the caller sees by what is returned.
-- locks: assignment rows (skip locked)
create or replace function mooring.release(ids bigint[], kind text, reason text) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  locked bigint[];
begin
  select array_agg(l.id) into locked
    from (select a.id from mooring.assignment a where a.id = any (release.ids) and a.node_id is not null order by a.id for update skip locked) l;
  if locked is null then
    return;
  end if;
  -- the deployments are read by a new statement, after the lock: an edit that waited for us has its turn afterwards
  return query
    with fate as materialized (
      select a.id, a.node_id, d.id is null or a.ordinal >= d.replicas or a.ordinal is null as ends, coalesce(d.enabled, false) as enabled, d.signature
        from mooring.assignment a left join mooring.deployment d on d.id = a.deployment_id and (d.type = 'daemon') = (a.ordinal is null)
       where a.id = any (locked)
    ),
    freed as (
      update mooring.assignment a
         set node_id = null, epoch = a.epoch + 1, wanted = case when f.enabled then 'run' else 'stop' end, stop_reason = null, lease_ttl = null, assigned_at = null,
             last_node_id = f.node_id, waiting_since = clock_timestamp(), signature = mooring.queue_signature(f.signature, a.refused_by)
        from fate f
       where a.id = f.id and not f.ends
      returning a.*
    ),
    ended as (
      delete from mooring.assignment a using fate f where a.id = f.id and f.ends returning a.*
    ),
    logged as (
      insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
      select release.kind, r.id, r.deployment_id, r.node_id, n.name, r.epoch, release.reason
        from (select f.id, f.deployment_id, f.last_node_id as node_id, f.epoch from freed f union all select e.id, e.deployment_id, e.node_id, e.epoch + 1 from ended e) r
        left join mooring.node n on n.id = r.node_id
       order by r.id
    ),
    observed as (
      update mooring.run r set state = case release.kind when 'reaped' then 'lost' when 'refused' then 'refused' else 'stopped' end, pid = null, next_start_at = null
        from fate f where r.assignment_id = f.id
    )
    select f.* from freed f union all select e.* from ended e;
  perform mooring.enqueue('place');
end;
$$;
comment on function mooring.release(bigint[], text, text) is 'Takes assignments from their owners and decides from their deployments what becomes of them; returns those it could lock.';
