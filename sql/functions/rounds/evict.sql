-- evict: stops work that is no longer permitted where it runs, because trust, selector, pin,
-- drivers or URLs changed. The owner stops it and reports; only then is it placed elsewhere.
-- What the agent is not trusted to run, or has no driver for, stops at once. Of the rest, a replica
-- that runs stops only where another node could take it, and within the budget of its deployment.
-- So an edit that no node fulfils leaves what runs. Event stop_postponed says so, and the round
-- asks again.
-- Triggers call it for the edited deployments and nodes. The round calls it for all, because a
-- claim that began before an edit was committed could not know of the edit.
-- The round also repairs what no trigger saw: missing assignments and daemons, and node loads.
-- locks: deployment, then assignment (both skip locked), then placement (tried, and only to recount
--   loads)
create or replace function mooring.evict(
  deployments bigint[] default null,
  nodes int[] default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
begin
  -- only as a round: a trigger's call leaves the transaction of the edit as it is
  if evict.deployments is null and evict.nodes is null then
    perform mooring_internal.limit_idle();
    perform mooring_internal.forget_stopped_names();
  end if;
  return query
    with owned as materialized (
      select a.signature, a.node_id, min(a.deployment_id) as deployment_id
        from mooring.assignment a
       where a.node_id is not null
         and a.wanted = 'run'
         and (evict.deployments is null or a.deployment_id = any (evict.deployments))
         and (evict.nodes is null or a.node_id = any (evict.nodes))
       group by a.signature, a.node_id
    ),
    groups as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct o.deployment_id) from owned o)) l
    ),
    fit as materialized (
      select e.*
        from mooring_internal.eligibility(
            (select array_agg(distinct l.representative) from groups l)) e
    ),
    not_permitted as materialized (
      select o.signature, o.node_id, mooring_internal.reason_not_permitted(e) as reason,
          not (e.trust_ok and e.driver_ok) as at_once,
          exists (
            select from fit f
             where f.deployment_id = l.representative and f.eligible) as has_place
        from owned o
        join groups l on l.deployment_id = o.deployment_id
        join fit e on e.deployment_id = l.representative and e.node_id = o.node_id
       where not e.permitted
    ),
    locked as materialized (
      select a.id, o.reason, o.has_place,
          o.at_once
            or a.ordinal is null
            or a.handover is not null
            or not exists (
              select from mooring.run r
               where r.assignment_id = a.id and r.epoch = a.epoch and r.state = 'running')
            as at_once
        from mooring.assignment a
        join not_permitted o on o.signature = a.signature and o.node_id = a.node_id
       where a.wanted = 'run'
         and (evict.deployments is null or a.deployment_id = any (evict.deployments))
         for no key update of a skip locked
    ),
    allowed as materialized (
      select mooring_internal.within_budget(
            (select array_agg(b.id order by b.id) from locked b where b.has_place)) as ids
    ),
    evicted as (
      update mooring.assignment a
         set wanted = 'stop', stop_reason = l.reason, move_reason = null
        from locked l
       where a.id = l.id
         and a.wanted = 'run'
         and (
           l.at_once
           or a.id in (select u.id from allowed w cross join unnest(w.ids) u (id)))
      returning a.*
    ),
    postponed as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select 'stop_postponed', a.id, a.deployment_id, a.node_id, n.name, a.epoch,
          l.reason || case
            when l.has_place then ': it runs on until another replica is available'
            else ': it runs on, because no other node can take it'
          end,
          (select mooring_internal.actor())
        from locked l
        join mooring.assignment a on a.id = l.id
        left join mooring.node n on n.id = a.node_id
       -- once for each edit, not for each round
       where evict.deployments is not null or evict.nodes is not null
         and not exists (select from evicted e where e.id = l.id)
       order by a.id
    ),
    logged as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select 'stop_wanted', e.id, e.deployment_id, e.node_id, n.name, e.epoch, e.stop_reason,
          (select mooring_internal.actor())
        from evicted e
        left join mooring.node n on n.id = e.node_id
       order by e.id
    )
    select e.* from evicted e;
  if evict.deployments is null and evict.nodes is null then
    perform mooring_internal.move_failing();
    perform mooring_internal.forget_trouble();
    perform mooring_internal.mend_assignments();
    perform mooring_internal.make_daemons();
    -- a daemon that was made while its node was being deleted has no agent that could stop it
    delete from mooring.assignment a
     where a.ordinal is null
       and not exists (select from mooring.node n where n.id = a.node_id);
    perform mooring_internal.recount_loads();
    perform mooring_internal.finish_round('evict');
  end if;
end;
$$;
comment on function mooring.evict(bigint[], int[]) is
  'Orders the stop of work that is no longer permitted on its node, and returns those assignments. '
  'deployments and nodes narrow it. Without both it is the evict round, and also makes missing '
  'assignments and daemons and recounts loads.';
