-- plan_partings: which replicas should leave a node that has another of their deployment, and where
-- to. A failover puts twins on one node when nothing else is left; nothing parts them by itself.
-- A replica goes to the node with the least load that may run it and neither has nor is promised
-- another of its deployment. Work under a policy that is not of kind load stays, as in
-- plan_rebalance().
-- No cooldown: a parting makes no new twins, so repeated calls come to an end.
-- Reads only.
create or replace function mooring_internal.plan_partings(max_moves int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node int,
  to_node int
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  nodes mooring.node_state[];
  tried_before timestamptz :=
    clock_timestamp() - (select s.handover_timeout from mooring.setting s);
  handed_over bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.replica is not null);
  crowded_deployments bigint[];
  crowded_nodes int[];
  crowds bigint[];
  comes jsonb := '{}';
  budget int := plan_partings.max_moves;
  planned_deployments bigint[] := '{}';
  planned_nodes int[] := '{}';
  twin record;
  target int;
begin
  -- a replica counts where it is promised to be, and what only stops counts nowhere
  select array_agg(c.deployment_id), array_agg(c.node_id), array_agg(c.n)
    into crowded_deployments, crowded_nodes, crowds
    from (
      select a.deployment_id, coalesce(a.move_to, a.node_id) as node_id, count(*) as n
        from mooring.assignment a
       where coalesce(a.move_to, a.node_id) is not null
         and (a.wanted = 'run' or a.move_to is not null)
         and a.ordinal is not null
         and a.handover is null
         and a.id <> all (handed_over)
       group by 1, 2
      having count(*) > 1) c;
  if crowded_deployments is null then
    return;
  end if;
  nodes := array(select s from mooring_internal.node_states() s);
  for twin in
    with movable as materialized (
      select a.id, a.deployment_id, a.node_id, a.refused_by, c.n,
          row_number() over (
            partition by a.deployment_id, a.node_id
            order by a.assigned_at desc, a.id desc) as nr
        from unnest(crowded_deployments, crowded_nodes, crowds) c (deployment_id, node_id, n)
        join mooring.assignment a
          on a.deployment_id = c.deployment_id and a.node_id = c.node_id
        join mooring.deployment d on d.id = a.deployment_id and d.pinned_node is null
       cross join mooring.setting s
        join mooring.policy p
          on p.name = coalesce(d.policy, s.default_policy) and p.kind = 'load'
        join mooring.node n on n.id = a.node_id and n.draining_since is null
        join mooring.heartbeat h on h.node_id = n.id and mooring_internal.node_is_live(h)
       where a.wanted = 'run'
         and a.ordinal is not null
         and a.move_reason is null
         and a.handover is null
         and a.id <> all (handed_over)
         and (a.handover_failed_at is null or a.handover_failed_at < tried_before)
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from movable m)) l
    ),
    fit as materialized (
      select e.deployment_id, e.node_id
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
    ),
    free as materialized (
      select l.deployment_id, array_agg(f.node_id) as node_ids
        from alike l
        join fit f on f.deployment_id = l.representative
       where not exists (
         select
           from mooring.assignment b
          where b.deployment_id = l.deployment_id
            and b.handover is distinct from 'leaving'
            and (b.node_id = f.node_id or b.move_to = f.node_id))
       group by l.deployment_id
    )
    select m.id, m.deployment_id, m.node_id, m.refused_by, f.node_ids
      from movable m
      join free f on f.deployment_id = m.deployment_id
     where m.nr < m.n and m.nr <= cardinality(f.node_ids)
     order by m.nr, m.deployment_id, m.node_id
  loop
    exit when budget <= 0;
    select s.id into target
      from unnest(nodes) s
     cross join lateral (
       select s.assigned + coalesce((comes ->> s.id::text)::int, 0) as assigned) l
     where s.id = any (twin.node_ids)
       and s.id <> all (twin.refused_by)
       and l.assigned < coalesce(s.max_assignments, 2147483647)
       and not exists (
         select
           from unnest(planned_deployments, planned_nodes) p (deployment_id, node_id)
          where p.deployment_id = twin.deployment_id and p.node_id = s.id)
     order by (l.assigned + 1) * 100 / s.weight, s.id
     limit 1;
    continue when target is null;
    planned_deployments := planned_deployments || twin.deployment_id;
    planned_nodes := planned_nodes || target;
    comes := comes || jsonb_build_object(target, coalesce((comes ->> target::text)::int, 0) + 1);
    budget := budget - 1;
    assignment_id := twin.id;
    deployment_id := twin.deployment_id;
    from_node := twin.node_id;
    to_node := target;
    return next;
  end loop;
end;
$$;
comment on function mooring_internal.plan_partings(int) is
  'At most max_moves moves that part replicas of one deployment on one node. Locks and writes '
  'nothing.';
