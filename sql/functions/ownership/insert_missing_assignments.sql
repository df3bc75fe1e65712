-- The one insert of replicas. They are born pending and queue by the times of their deployment.
-- An existing row stays as it is, even one that is still owned or stopping. It is looked for first,
-- because an insert that ends in the conflict uses up an id. New deployments have none to look for.
create or replace function mooring_internal.insert_missing_assignments(
  deployments bigint[],
  are_new boolean default false
) returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  made bigint;
begin
  insert into mooring.assignment (
    deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
  select d.id, o.ordinal, d.signature,
      case when d.enabled then 'run' else 'stop' end,
      clock_timestamp(), d.created_at, d.updated_at
    from mooring.deployment d
   cross join lateral (
     select s.ordinal
       from generate_series(0, d.replicas - 1) s (ordinal)
      where insert_missing_assignments.are_new
     union all
     select f.ordinal
       from mooring_internal.free_ordinals(d.id, d.replicas) f (ordinal)
      where not insert_missing_assignments.are_new) o
   where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
   order by d.id, o.ordinal
  on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  get diagnostics made = row_count;
  return made;
end;
$$;
comment on function mooring_internal.insert_missing_assignments(bigint[], boolean) is
  'Makes a row for each replica of these deployments that has none; returns how many it made.';
