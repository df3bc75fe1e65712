-- What was given the name of a deleted deployment that still stops is noted. Called where a
-- deployment gets a name. claim() and make_daemons() look only at what was noted, so that a name
-- costs nothing as long as no instance of a deleted namesake lives.
create or replace function mooring_internal.note_namesakes(deployments bigint[]) returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.namesake (deployment_id, waits_for)
  select d.id, s.id
    from mooring_internal.stopping_deployment s
    join mooring.deployment d on d.name = s.name and d.id <> s.id
   where d.id = any (note_namesakes.deployments)
  on conflict do nothing;
end;
comment on function mooring_internal.note_namesakes(bigint[]) is
  'Notes which of these deployments have the name of a deleted one that still stops.';
