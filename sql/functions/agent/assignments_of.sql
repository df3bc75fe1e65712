-- assignments_of: the complete set that a node owns, with everything its agent needs to run it. The
-- agent reads it again after every hint and every reconnect. It reconciles the set, never a change,
-- so a lost notification costs one beat of latency and nothing else.
create or replace function mooring.assignments_of(node text, session uuid default null)
  returns table (
    assignment_id bigint,
    epoch bigint,
    deployment_id bigint,
    ordinal int,
    type text,
    generation bigint,
    wanted text,
    on_lost text,
    lease_ttl_ms int,
    stop_grace_ms int,
    package_name text,
    package_version text,
    command text,
    args jsonb,
    env jsonb)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  own_id int;
begin
  if assignments_of.session is not null then
    own_id := mooring_internal.node_of_session(assignments_of.node, assignments_of.session);
  else
    select h.node_id into own_id
      from mooring.heartbeat h
     where h.node = assignments_of.node and mooring_internal.acts_for(h.role_name);
    if own_id is null then
      perform mooring_internal.raise_session_over(assignments_of.node);
    end if;
  end if;
  return query
    select a.id,
        a.epoch,
        a.deployment_id,
        a.ordinal,
        case when a.ordinal is null then 'daemon' else 'deployment' end,
        coalesce(d.generation, 0),
        a.wanted,
        coalesce(d.on_lost, 'stop'),
        mooring_internal.milliseconds(a.lease_ttl),
        mooring_internal.stop_grace_ms(d),
        d.package_name,
        case when d.package_name is not null then d.package_version end,
        d.command,
        d.args,
        d.env
      from mooring.assignment a
      left join mooring.deployment d on d.id = a.deployment_id
     where a.node_id = own_id
     order by a.id;
end;
$$;
comment on function mooring.assignments_of(text, uuid) is
  'Everything a node owns and what to run. The spec is null where the deployment is gone and only '
  'the stop remains. '
  'session: the session that holds the name; null where a role that acts for the node only looks.';
