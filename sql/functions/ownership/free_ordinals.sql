-- The ordinals that a deployment's missing rows get: the lowest that no row has. A survivor of a
-- scale-down keeps its ordinal, so there may be free ones below it.
create or replace function mooring_internal.free_ordinals(deployment_id bigint, replicas int)
  returns setof int
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  present int;
  numbered int;
begin
  select count(distinct a.ordinal) filter (where not a.surplus), count(distinct a.ordinal)
    into present, numbered
    from mooring.assignment a
   where a.deployment_id = free_ordinals.deployment_id;
  return query
    select o.ordinal
      from generate_series(0, free_ordinals.replicas + numbered - 1) o (ordinal)
     where not exists (
       select from mooring.assignment a
        where a.deployment_id = free_ordinals.deployment_id and a.ordinal = o.ordinal)
     order by o.ordinal
     limit greatest(free_ordinals.replicas - present, 0);
end;
$$;
comment on function mooring_internal.free_ordinals(bigint, int) is
  'The lowest free ordinals of a deployment, one for each row that it lacks.';
