-- set_up_roles: which role may do what, in one place. It creates the four group roles if it may,
-- and grants each what its members need. It revokes every other right that they have in this
-- schema. Roles belong to the cluster and grants to the database, so every migration and each
-- `mooring migrate` run it. A migrating role that may not create roles leaves that to a superuser;
-- then it is run again. Until then everything works for the owner of the schema.
--   mooring_viewer     views, explain, history; of deployments neither env nor args nor command
--   mooring_operator   the same, whole deployments, the operator's verbs, logs, editable columns
--                      of node, the settings. Not policies: their functions run as the owner
--   mooring_agent      the agent's verbs, each for the nodes of the login only, and no table
--   mooring_workload   assert_owner() alone. It is not public, because it can delay the failover of
--                      any assignment it names
-- PUBLIC gets nothing, also where a restored dump or default privileges gave it something.
-- Workers have no role: the tables of graphile-worker show their rows to their owner only.
create or replace function mooring.set_up_roles() returns table (role text, problem text)
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  verbs constant jsonb := mooring_internal.rights_of_roles() -> 'verbs';
  tables constant jsonb := mooring_internal.rights_of_roles() -> 'tables';
  thing text;
  found_as text;
begin
  revoke all on all routines in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on all tables in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on all sequences in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on schema mooring, mooring_internal, mooring_jobs from public;
  for role in
    select k
      from jsonb_object_keys(verbs) k
     order by k desc
  loop
    problem := null;
    begin
      if to_regrole(role) is null then
        execute format('create role %I nologin', role);
      end if;
    exception
      -- a migration of another database of the cluster created it a moment ago
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        problem := format(
          'role %s does not exist, and %s may not create it: create role %s; as a superuser, '
          'then run mooring migrate again',
          role, current_user, role);
        return next;
        continue;
    end;
    execute format('revoke all on all routines in schema mooring, mooring_internal from %I', role);
    execute format('revoke all on all tables in schema mooring, mooring_internal from %I', role);
    -- mooring_internal needs no usage: a view resolved its functions when it was created,
    -- so execute is enough
    execute format('revoke all on schema mooring_internal from %I', role);
    execute format('grant usage on schema mooring to %I', role);
    for thing in select t from jsonb_array_elements_text(verbs -> role) t loop
      select p.oid::regprocedure::text into found_as
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and p.proname = thing;
      if found_as is null then
        raise exception 'set_up_roles() names a function that does not exist: %', thing;
      end if;
      execute format('grant execute on routine %s to %I', found_as, role);
    end loop;
    for thing in select t from jsonb_array_elements_text(coalesce(tables -> role, '[]')) t loop
      execute format('grant %s to %I', thing, role);
    end loop;
    if role = 'mooring_viewer' then
      -- no view shows what may hold a secret
      for thing in
        select c.oid::regclass::text
          from pg_class c
         where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v'
      loop
        execute format('grant select on %s to %I', thing, role);
      end loop;
    end if;
  end loop;
  if to_regrole('mooring_viewer') is not null
    and to_regrole('mooring_operator') is not null
    and not pg_has_role('mooring_operator', 'mooring_viewer', 'usage')
  then
    begin
      grant mooring_viewer to mooring_operator;
    exception
      when unique_violation then null;
      when insufficient_privilege then
        role := 'mooring_operator';
        problem := format(
          '%s may not make operators viewers: grant mooring_viewer to mooring_operator; '
          'as a superuser',
          current_user);
        return next;
    end;
  end if;
end;
$$;
comment on function mooring.set_up_roles() is
  'Creates mooring_viewer, mooring_operator, mooring_agent and mooring_workload and grants their '
  'rights. Returns a row per role for what could not be done, with the way out.';
