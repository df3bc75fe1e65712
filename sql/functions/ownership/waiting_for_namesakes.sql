-- Deployments that wait until a deleted deployment of their name has stopped, and the reason.
create or replace function mooring_internal.waiting_for_namesakes()
  returns table (deployment_id bigint, reason text)
  language sql stable security definer rows 1
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select w.deployment_id,
      format(
        'it waits until deployment %s, which had its name and was deleted, has stopped on %s',
        min(w.waits_for),
        string_agg(distinct n.name, ', ' order by n.name))
    from mooring_internal.namesake w
    join mooring.assignment a on a.deployment_id = w.waits_for
    join mooring.node n on n.id = a.node_id
   where not exists (select from mooring.deployment d where d.id = w.waits_for)
   group by w.deployment_id;
end;
comment on function mooring_internal.waiting_for_namesakes() is
  'Deployments that wait for the end of a deleted one of their name, and why.';
