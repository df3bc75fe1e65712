-- The notes about deleted deployments whose last instance has stopped go. Part of the evict round.
create or replace function mooring_internal.forget_stopped_names() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.stopping_deployment s
   where not exists (select from mooring.assignment a where a.deployment_id = s.id);
  delete from mooring_internal.namesake w
   where not exists (select from mooring.assignment a where a.deployment_id = w.waits_for)
      or not exists (select from mooring.deployment d where d.id = w.deployment_id);
end;
comment on function mooring_internal.forget_stopped_names() is
  'Forgets the names of deleted deployments that have stopped.';
