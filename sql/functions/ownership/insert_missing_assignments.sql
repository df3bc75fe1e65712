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
   cross join lateral generate_series(0, d.replicas - 1) o (ordinal)
   where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
     -- no `exists`: the planner would hash the whole table for it
     and (
       insert_missing_assignments.are_new
       or (
         select true
           from mooring.assignment a
          where a.deployment_id = d.id
            and a.ordinal = o.ordinal
            and coalesce(a.handover, '') = ''
          limit 1) is null)
   order by d.id, o.ordinal
  on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  get diagnostics made = row_count;
  return made;
end;
$$;
comment on function mooring_internal.insert_missing_assignments(bigint[], boolean) is
  'Makes a row for each replica of these deployments that has none; returns how many it made.';
