-- Replicas are made here alone. They are born pending and queue by the times of their deployment.
-- An existing row stays as it is, even one that is still owned or stopping. It is looked for first,
-- because an insert that ends in the conflict uses up an id. New deployments have none to look for;
-- looking all the same costs an INSERT of 100,000 a tenth of its time.
-- A missing row gets the lowest ordinal that no row has. A survivor of a scale-down keeps its
-- ordinal, so there may be free ones below it.
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
  if insert_missing_assignments.are_new then
    insert into mooring.assignment (
      deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
    select d.id, o.ordinal, d.signature,
        case when d.enabled then 'run' else 'stop' end,
        clock_timestamp(), d.created_at, d.updated_at
      from mooring.deployment d
     cross join lateral generate_series(0, d.replicas - 1) o (ordinal)
     where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
     order by d.id, o.ordinal
    on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  else
    insert into mooring.assignment (
      deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
    select d.id, o.ordinal, d.signature,
        case when d.enabled then 'run' else 'stop' end,
        clock_timestamp(), d.created_at, d.updated_at
      from mooring.deployment d
     cross join lateral (
       select count(distinct a.ordinal) filter (where not a.surplus) as present,
           count(distinct a.ordinal) as numbered
         from mooring.assignment a
        where a.deployment_id = d.id) c
     cross join lateral (
       select s.ordinal
         from generate_series(0, d.replicas + c.numbered::int - 1) s (ordinal)
        -- no `exists`: the planner would hash the whole table for it
        where (
          select true
            from mooring.assignment a
           where a.deployment_id = d.id and a.ordinal = s.ordinal
           limit 1) is null
        order by s.ordinal
        limit greatest(d.replicas - c.present, 0)) o
     where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
     order by d.id, o.ordinal
    on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  end if;
  get diagnostics made = row_count;
  return made;
end;
$$;
comment on function mooring_internal.insert_missing_assignments(bigint[], boolean) is
  'Makes a row for each replica of these deployments that has none; returns how many it made.';
