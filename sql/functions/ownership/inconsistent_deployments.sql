-- The deployments whose assignments are not what they want: an ordinal without a row, an owner that runs what is not wanted, a row that waits otherwise than its deployment says,
-- or under another signature. What the owner is told to stop already is on its way.
-- One join over all there is (no order, nothing distinct: 100,000 rows in 90 ms on a busy machine), and a second one only where something is missing: each ordinal has one row without
-- handover at most, so the counts tell.
-- locks: none
create or replace function mooring_internal.inconsistent_deployments() returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- with stale statistics the planner takes each side for one row, see release()
  set enable_nestloop = off
  -- the keys of 100,000 deployments are 7 MB, and hashed in one piece
  set work_mem = '16MB'
as $$
declare
  astray bigint[];
  there bigint;
  wanted bigint;
begin
  select array_agg(j.deployment_id) filter (where j.is_astray), count(*) filter (where j.is_in_place), (select sum(d.replicas) from mooring.deployment d where d.type = 'deployment')
    into astray, there, wanted
    from (select a.deployment_id, d.id is not null and a.ordinal < d.replicas and a.handover is null as is_in_place,
              case when a.node_id is null then d.id is null or a.ordinal >= d.replicas or d.enabled <> (a.wanted = 'run')
                   else (a.wanted = 'run' or a.move_reason is not null) and (d.id is null or not d.enabled or a.ordinal >= d.replicas) end
              or a.signature <> mooring_internal.queue_signature(d.signature, a.refused_by) as is_astray
            from mooring.assignment a left join mooring.deployment d on d.id = a.deployment_id and d.type = 'deployment'
           where a.ordinal is not null) j;
  if there < wanted then
    -- a copy without its replica becomes the replica, see advance_handovers() and release(): nothing is to wait beside it
    astray := coalesce(astray, '{}') || array(
      select d.id from mooring.deployment d left join mooring.assignment a on a.deployment_id = d.id and a.ordinal < d.replicas
       where d.type = 'deployment' group by d.id having count(distinct a.ordinal) < d.replicas);
  end if;
  return array(select distinct u.id from unnest(astray) u (id) order by u.id);
end;
$$;
comment on function mooring_internal.inconsistent_deployments() is 'Deployments whose assignments are not what they want; the evict round mends them.';
