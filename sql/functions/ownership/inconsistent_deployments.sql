-- The deployments whose assignments are not what they want:
--   it has fewer or more rows than replicas
--   an owner runs what is not wanted (what it already has to stop does not count)
--   a pending row is not as its deployment says, or waits under another signature
-- One join reads all rows, and one count for each deployment goes beside it.
-- Where a count is wrong, a second look counts ordinals: a row of a handover that lost its replica
-- becomes the replica, see advance_handovers() and release(), so no row may be made to wait beside
-- it.
-- locks: none
create or replace function mooring_internal.inconsistent_deployments() returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- with stale statistics the planner takes each side for one row, see release()
  set enable_nestloop = off
  -- the keys of 100,000 deployments are 7 MB, hashed in one piece
  set work_mem = '32MB'
as $$
declare
  inconsistent bigint[];
  miscounted bigint[];
begin
  select array_agg(a.deployment_id) into inconsistent
    from mooring.assignment a
    left join mooring.deployment d on d.id = a.deployment_id and d.type = 'deployment'
   where a.ordinal is not null
     and (
       a.signature <> mooring_internal.queue_signature(d.signature, a.refused_by)
       or case when a.node_id is null
               then d.id is null or d.enabled <> (a.wanted = 'run')
               else (a.wanted = 'run' or a.move_reason is not null)
                 and (d.id is null or not d.enabled or a.surplus)
               end);
  select array_agg(d.id) into miscounted
    from mooring.deployment d
    left join (
      select a.deployment_id, count(*) as present
        from mooring.assignment a
       where a.ordinal is not null and not a.surplus and a.handover is null
       group by a.deployment_id) c on c.deployment_id = d.id
   where d.type = 'deployment' and d.replicas <> coalesce(c.present, 0);
  if miscounted is not null then
    inconsistent := coalesce(inconsistent, '{}') || array(
      select d.id
        from mooring.deployment d
        left join mooring.assignment a on a.deployment_id = d.id and not a.surplus
       where d.id = any (miscounted)
       group by d.id
      having count(distinct a.ordinal) <> d.replicas);
  end if;
  return array(select distinct u.id from unnest(inconsistent) u (id) order by u.id);
end;
$$;
comment on function mooring_internal.inconsistent_deployments() is
  'Deployments whose assignments are not what they want; the evict round mends them.';
