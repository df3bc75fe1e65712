-- Mends what no trigger handled, or what got lost: a claim or a handover that was committed behind
-- an edit, triggers that were switched off for a while, a restore of some tables.
-- Part of the evict round. Deployments and rows that another transaction holds wait for the next
-- round. So this neither waits for a forgotten transaction nor blocks claims, moves, handovers and
-- edits. make_assignments() looks again at the rows locked here, as they are by then.
-- locks: deployment, then assignment rows (both skip locked)
create or replace function mooring_internal.mend_assignments() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set enable_nestloop = off
  set lock_timeout = '1s'
as $$
declare
  inconsistent bigint[] := mooring_internal.inconsistent_deployments();
begin
  if inconsistent = '{}' then
    return 0;
  end if;
  inconsistent := array(
    select d.id
      from mooring.deployment d
     where d.id = any (inconsistent)
       for no key update skip locked)
    || array(
    select u.id
      from unnest(inconsistent) u (id)
     where not exists (select from mooring.deployment d where d.id = u.id));
  with locked as materialized (
    select a.id, a.deployment_id
      from mooring.assignment a
     where a.deployment_id = any (inconsistent)
     order by a.id
       for no key update skip locked
  ),
  held_by_others as materialized (
    select a.deployment_id
      from mooring.assignment a
     where a.deployment_id = any (inconsistent)
       and not exists (select from locked l where l.id = a.id)
  )
  select array_agg(u.id) into inconsistent
    from unnest(inconsistent) u (id)
   where not exists (select from held_by_others h where h.deployment_id = u.id);
  perform mooring_internal.make_assignments(inconsistent);
  return coalesce(cardinality(inconsistent), 0);
exception when lock_not_available then
  -- another transaction inserts these very rows, or a workload is inside assert_owner()
  return 0;
end;
$$;
comment on function mooring_internal.mend_assignments() is
  'Makes the assignments of inconsistent deployments what their specs want; '
  'returns the number of these deployments.';
