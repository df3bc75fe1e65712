-- Which of these assignments may be stopped now without taking their deployments below their
-- budget. Everything that stops instances of its own accord asks it under the placement lock:
-- drains, rebalancing, eviction. A deadline, a deletion, a disabled deployment and trust overrule
-- it, and so do verbs that name one assignment.
--   budget     a deployment of several replicas may lack one: replicas - 1 have to be available
--   available  it shall run, its node is live, and it is observed running under its epoch
-- What is not available serves no request. So it may be stopped at any time, and goes first.
-- A simulation says what it has moved so far: arrived runs elsewhere, under_way is stopped.
create or replace function mooring_internal.within_budget(
  ids bigint[],
  arrived bigint[] default '{}',
  under_way bigint[] default '{}'
) returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- sets of thousands whose sizes the planner cannot know, see release()
  set enable_nestloop = off
  set jit = off
as $$
declare
  replicated bigint[] := array(
    select d.id
      from mooring.deployment d
     where d.replicas > 1
       and d.id = any (array(
         select a.deployment_id
           from mooring.assignment a
          where a.id = any (within_budget.ids))));
begin
  if replicated = '{}' then
    return coalesce(within_budget.ids, '{}');
  end if;
  return array(
    with available as materialized (
      select a.id, a.deployment_id
        from mooring.assignment a
        join mooring.heartbeat h on h.node_id = a.node_id
        left join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       where a.deployment_id = any (replicated)
         and a.id <> all (within_budget.under_way)
         and (
           a.id = any (within_budget.arrived)
           or a.wanted = 'run'
             and a.handover is null
             and r.state = 'running'
             and mooring_internal.node_is_live(h))
    ),
    spare as materialized (
      select d.id as deployment_id, count(v.id) - (d.replicas - 1) as n
        from mooring.deployment d
        left join available v on v.deployment_id = d.id
       where d.id = any (replicated)
       group by d.id, d.replicas
    ),
    asked as materialized (
      select u.id, u.nr, v.deployment_id,
          row_number() over (partition by v.deployment_id order by u.nr) as place
        from unnest(within_budget.ids) with ordinality u (id, nr)
        left join available v on v.id = u.id
    )
    select k.id
      from asked k
      left join spare s on s.deployment_id = k.deployment_id
     where k.deployment_id is null or k.place <= s.n
     order by k.deployment_id is not null, k.nr);
end;
$$;
comment on function mooring_internal.within_budget(bigint[], bigint[], bigint[]) is
  'Those of these assignments that may be stopped now without taking a deployment of several '
  'replicas below all but one; what is not available comes first.';
