-- Mends what no trigger saw to, or what got lost: a claim or a handover that was committed behind an edit, triggers that were switched off
-- for a while, a restore of some tables.
-- Part of the evict round. Deployments and rows that somebody holds are left for the next one, so that it neither waits for a forgotten transaction nor stands in the way of
-- who claims, moves, hands over or edits; what is held is looked at again by make_assignments(), as it is then.
-- locks: deployment, then assignment rows (both skip locked)
create or replace function mooring_internal.mend_assignments() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set enable_nestloop = off
  set lock_timeout = '1s'
as $$
declare
  astray bigint[] := mooring_internal.inconsistent_deployments();
begin
  if astray = '{}' then
    return 0;
  end if;
  astray := array(
    select d.id from mooring.deployment d where d.id = any (astray) for no key update skip locked)
    || array(select u.id from unnest(astray) u (id) where not exists (select from mooring.deployment d where d.id = u.id));
  with locked as materialized (
    select a.id, a.deployment_id from mooring.assignment a where a.deployment_id = any (astray) order by a.id for no key update skip locked
  ),
  held_by_others as materialized (
    select a.deployment_id from mooring.assignment a where a.deployment_id = any (astray) and not exists (select from locked l where l.id = a.id)
  )
  select array_agg(u.id) into astray from unnest(astray) u (id) where not exists (select from held_by_others h where h.deployment_id = u.id);
  perform mooring_internal.make_assignments(astray);
  return coalesce(cardinality(astray), 0);
exception when lock_not_available then
  -- somebody inserts these very rows, or a workload is inside assert_owner()
  return 0;
end;
$$;
comment on function mooring_internal.mend_assignments() is 'Makes the assignments of deployments that went astray what their specs want; returns of how many it did.';
