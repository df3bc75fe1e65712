-- The deployments whose assignments are not what they want:
--   an ordinal has no row
--   an owner runs what is not wanted (what it already has to stop does not count)
--   a pending row is not as its deployment says, or waits under another signature
-- One join reads all rows: 100,000 in 90 ms on a busy machine, without order or distinct.
-- A second join runs only where an ordinal has no row. The counts show that, because each ordinal
-- has at most one row with handover null.
-- locks: none
create or replace function mooring_internal.inconsistent_deployments() returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- with stale statistics the planner takes each side for one row, see release()
  set enable_nestloop = off
  -- the keys of 100,000 deployments are 7 MB, hashed in one piece
  set work_mem = '16MB'
as $$
declare
  inconsistent bigint[];
  present bigint;
  wanted bigint;
begin
  select array_agg(j.deployment_id) filter (where j.is_inconsistent),
      count(*) filter (where j.is_in_place),
      (select sum(d.replicas) from mooring.deployment d where d.type = 'deployment')
    into inconsistent, present, wanted
    from (select a.deployment_id,
              d.id is not null and a.ordinal < d.replicas and a.handover is null as is_in_place,
              case when a.node_id is null
                   then d.id is null or a.ordinal >= d.replicas or d.enabled <> (a.wanted = 'run')
                   else (a.wanted = 'run' or a.move_reason is not null)
                     and (d.id is null or not d.enabled or a.ordinal >= d.replicas)
                   end
              or a.signature <> mooring_internal.queue_signature(d.signature, a.refused_by)
              as is_inconsistent
            from mooring.assignment a
            left join mooring.deployment d on d.id = a.deployment_id and d.type = 'deployment'
           where a.ordinal is not null) j;
  if present < wanted then
    -- a handover row that lost its replica becomes the replica, see advance_handovers() and
    -- release(), so no row may be made to wait beside it
    inconsistent := coalesce(inconsistent, '{}') || array(
      select d.id
        from mooring.deployment d
        left join mooring.assignment a on a.deployment_id = d.id and a.ordinal < d.replicas
       where d.type = 'deployment'
       group by d.id
      having count(distinct a.ordinal) < d.replicas);
  end if;
  return array(select distinct u.id from unnest(inconsistent) u (id) order by u.id);
end;
$$;
comment on function mooring_internal.inconsistent_deployments() is
  'Deployments whose assignments are not what they want; the evict round mends them.';
