-- Assignments follow deployments, level-triggered: these functions make rows what the deployments want, whatever they were before.

-- A changed spec: nodes that refused the old one are asked again, a successor that failed is tried again, and what waits goes to the back of the queue. What runs is not touched, so that an edit
-- of a version or an environment that somebody does not commit holds up no failover.
-- locks: assignment rows of these deployments that wait or were refused
create or replace function mooring.queue_anew(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring.assignment a
     set signature = d.signature, refused_by = '{}', handover_failed_at = null, handover_error = null, wanted = case when a.node_id is not null then a.wanted when d.enabled then 'run' else 'stop' end,
         move_to = case when a.node_id is not null or d.enabled then a.move_to end, move_reason = case when a.node_id is not null or d.enabled then a.move_reason end,
         updated_at = case when a.node_id is null and a.updated_at < d.updated_at then d.updated_at else a.updated_at end
    from mooring.deployment d
   where a.deployment_id = any (queue_anew.deployments) and d.id = a.deployment_id and d.type = 'deployment' and a.ordinal is not null
     and (a.signature <> d.signature or a.refused_by <> '{}' or a.node_id is null or a.handover_failed_at is not null);
end;
$$;
comment on function mooring.queue_anew(bigint[]) is 'Lets what waits of these deployments follow the changed spec, and asks nodes again that refused the old one.';

-- For deployments of type deployment: rows for ordinals below replicas exist; what is owned and no longer wanted is told to stop and
-- keeps its row, and so its fence, until its process is gone; what is pending and no longer wanted is deleted.
-- locks: assignment rows of these deployments, in order of id (no key update: a workload's assert_owner() is not disturbed)
create or replace function mooring.make_assignments(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- whoever releases or claims one of these rows is waited for, so that every statement below sees what they left
  perform from mooring.assignment a where a.deployment_id = any (make_assignments.deployments) order by a.id for no key update;
  delete from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments) and a.node_id is null
     and not exists (select from mooring.deployment d where d.id = a.deployment_id and d.type = 'deployment' and a.ordinal < d.replicas);
  with stopping as (
    update mooring.assignment a
       set wanted = 'stop', move_to = null, move_reason = null, stop_reason = case when d.id is null then 'its deployment was deleted' when not d.enabled then 'its deployment is disabled' else 'its deployment was scaled down' end
      from mooring.assignment b left join mooring.deployment d on d.id = b.deployment_id and d.type = 'deployment'
     where b.deployment_id = any (make_assignments.deployments) and a.id = b.id and a.node_id is not null and a.ordinal is not null
       -- what is stopped only to be moved is stopped for good
       and (a.wanted = 'run' or a.move_reason is not null)
       and (d.id is null or not d.enabled or a.ordinal >= d.replicas)
    returning a.*
  )
  insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
  select 'stop_wanted', s.id, s.deployment_id, s.node_id, n.name, s.epoch, s.stop_reason, (select mooring.actor()) from stopping s left join mooring.node n on n.id = s.node_id order by s.id;
  perform mooring.queue_anew(make_assignments.deployments);
  insert into mooring.assignment (deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
  select d.id, o.ordinal, d.signature, case when d.enabled then 'run' else 'stop' end, clock_timestamp(), d.created_at, d.updated_at
    from mooring.deployment d cross join lateral generate_series(0, d.replicas - 1) o (ordinal)
   where d.id = any (make_assignments.deployments) and d.type = 'deployment'
   order by d.id, o.ordinal
  on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
end;
$$;
comment on function mooring.make_assignments(bigint[]) is 'Makes the assignments of these deployments what their specs want.';

-- For daemons: an instance on every node that is permitted to run it; the others are told to stop. Never pending: a daemon's row is born owned.
-- locks: assignment (skip locked: the next evict round finds what was passed by)
create or replace function mooring.make_daemons(deployments bigint[] default null, nodes int[] default null) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  told int[];
begin
  if not exists (select from mooring.deployment d where d.type = 'daemon') and not exists (select from mooring.assignment a where a.ordinal is null) then
    return;
  end if;
  with desired as materialized (
    select e.deployment_id, e.node_id, d.signature, coalesce(d.lease_ttl, s.lease_ttl) as lease_ttl
      from mooring.eligibility((select array_agg(d.id) from mooring.deployment d where d.type = 'daemon' and d.enabled and (make_daemons.deployments is null or d.id = any (make_daemons.deployments)))) e
      join mooring.deployment d on d.id = e.deployment_id
     cross join mooring.setting s
     where e.permitted and (make_daemons.nodes is null or e.node_id = any (make_daemons.nodes))
  ),
  made as (
    insert into mooring.assignment (deployment_id, ordinal, signature, node_id, epoch, lease_ttl, owner_reason, assigned_at)
    select d.deployment_id, null, d.signature, d.node_id, mooring.next_epoch(0), d.lease_ttl, 'a daemon runs on every permitted node', clock_timestamp()
      from desired d
     -- beside on conflict, which would wait for whoever changes the row that is there
     where not exists (select from mooring.assignment a where a.ordinal is null and a.deployment_id = d.deployment_id and a.node_id = d.node_id)
     order by d.deployment_id, d.node_id
    on conflict (deployment_id, node_id) where ordinal is null do nothing
    returning *
  ),
  unwanted as materialized (
    select b.id, case when d.id is null then 'its deployment was deleted' when not d.enabled then 'its deployment is disabled' else 'it is no longer permitted on the node' end as reason
      from mooring.assignment b left join mooring.deployment d on d.id = b.deployment_id and d.type = 'daemon'
     where b.ordinal is null and b.wanted = 'run'
       and (make_daemons.deployments is null or b.deployment_id = any (make_daemons.deployments)) and (make_daemons.nodes is null or b.node_id = any (make_daemons.nodes))
       and not exists (select from desired w where w.deployment_id = b.deployment_id and w.node_id = b.node_id)
       for no key update of b skip locked
  ),
  stopping as (
    update mooring.assignment a set wanted = 'stop', stop_reason = u.reason from unwanted u where a.id = u.id and a.wanted = 'run' returning a.*
  ),
  outdated as materialized (
    select b.id, w.signature
      from mooring.assignment b join desired w on w.deployment_id = b.deployment_id and w.node_id = b.node_id
     where b.ordinal is null and b.signature <> w.signature
       for no key update of b skip locked
  ),
  respecified as (
    update mooring.assignment a set signature = o.signature from outdated o where a.id = o.id
  ),
  logged as (
    insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select c.kind, c.id, c.deployment_id, c.node_id, n.name, c.epoch, c.reason, (select mooring.actor())
      from (select 'claimed' as kind, m.id, m.deployment_id, m.node_id, m.epoch, m.owner_reason as reason from made m
            union all select 'stop_wanted', s.id, s.deployment_id, s.node_id, s.epoch, s.stop_reason from stopping s) c
      left join mooring.node n on n.id = c.node_id order by c.id
  )
  select array_agg(m.node_id) into told from made m;
  -- born owned, and not under lock_placement()
  if told is not null then
    perform mooring.wait_for_disk();
  end if;
  perform mooring.notify_nodes(told);
end;
$$;
comment on function mooring.make_daemons(bigint[], int[]) is 'Makes the daemon instances of these deployments on these nodes (null: all) what specs and nodes want.';
