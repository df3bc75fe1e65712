-- plan_rebalance: which running assignments are worth moving, one step after the other. The README
-- tells why repeated calls end with an empty plan. Twins are parted first, see plan_partings().
-- That is worth a move at any load, and gains 1. Later steps even out what it made uneven.
-- A step moves the assignment that costs most where it is to the cheapest node that may run it, if
-- it is cheaper there. Both costs are under its own policy, and count the places left and filled so
-- far. Never moved: pinned work, daemons, what is being moved or handed over, what rests because
-- its successor failed, what came to its node within setting.rebalance_cooldown, a replica to a
-- node that has another of its deployment. Work under a policy that is not of kind load stays,
-- because only these compare loads. Reads only.
create or replace function mooring_internal.plan_rebalance(max_moves int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node int,
  to_node int,
  gain float8
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  came_before timestamptz :=
    clock_timestamp() - (select s.rebalance_cooldown from mooring.setting s);
  nodes mooring.node_state[] := array(select s from mooring_internal.node_states() s);
  -- nodes whose work may leave; a draining node empties itself, a silent node is left to reap()
  sources int[] := array(
    select n.id
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
     where n.draining_since is null and mooring_internal.node_is_live(h));
  tried_before timestamptz :=
    clock_timestamp() - (select s.handover_timeout from mooring.setting s);
  handed_over bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.replica is not null);
  succeeded bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.handover = 'arriving' and c.wanted = 'run' and c.replica is not null);
  -- by node: what is about to leave or to come, and what comes by this plan
  shift jsonb := coalesce(
    (
      select jsonb_object_agg(l.node_id, -l.n)
        from (
          select a.node_id, count(*) as n
            from mooring.assignment a
           where a.node_id is not null
             and a.ordinal is not null
             and (
               a.wanted = 'stop' and a.move_to is distinct from a.node_id
               or a.id = any (succeeded))
           group by a.node_id) l),
    '{}');
  comes jsonb := '{}';
  kind record;
  in_force mooring.policy;
  open int[];
  parting record;
  target record;
  source record;
  mover mooring.assignment;
  budget int := plan_rebalance.max_moves;
  planned bigint[] := '{}';
  planned_deployments bigint[] := '{}';
  planned_nodes int[] := '{}';
begin
  for parting in
    select p.* from mooring_internal.plan_partings(plan_rebalance.max_moves) p
  loop
    planned := planned || parting.assignment_id;
    planned_deployments := planned_deployments || parting.deployment_id;
    planned_nodes := planned_nodes || parting.to_node;
    shift := shift || jsonb_build_object(
      parting.from_node, coalesce((shift ->> parting.from_node::text)::int, 0) - 1,
      parting.to_node, coalesce((shift ->> parting.to_node::text)::int, 0) + 1);
    comes := comes || jsonb_build_object(
      parting.to_node, coalesce((comes ->> parting.to_node::text)::int, 0) + 1);
    budget := budget - 1;
    assignment_id := parting.assignment_id;
    deployment_id := parting.deployment_id;
    from_node := parting.from_node;
    to_node := parting.to_node;
    gain := 1;
    return next;
  end loop;
  for kind in
    with owned as materialized (
      select a.signature, min(a.deployment_id) as deployment_id,
          min(a.refused_by) as refused_by, count(*) as n
        from mooring.assignment a
       where a.node_id is not null
         and a.wanted = 'run'
         and a.ordinal is not null
         and a.move_reason is null
         and a.assigned_at <= came_before
         and a.handover is null
       group by a.signature
    ),
    movable as materialized (
      select o.*, p.name as policy
        from owned o
        join mooring.deployment d on d.id = o.deployment_id and d.pinned_node is null
       cross join mooring.setting s
        join mooring.policy p
          on p.name = coalesce(d.policy, s.default_policy) and p.kind = 'load'
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from movable m)) l
    ),
    fit as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
       group by e.deployment_id
    )
    select m.policy, t.node_ids, array_agg(m.signature) as signatures
      from movable m
      join alike l on l.deployment_id = m.deployment_id
      join fit f on f.deployment_id = l.representative
     cross join lateral (
       select array(
         select u.id
           from unnest(f.node_ids) u (id)
          where u.id <> all (m.refused_by)
          order by u.id) as node_ids) t
     where t.node_ids <> '{}'
     group by m.policy, t.node_ids
     order by sum(m.n) desc, m.policy, t.node_ids
  loop
    open := kind.node_ids;
    in_force := mooring_internal.policy_in_force(nodes, open, kind.policy, null);
    while budget > 0 and open <> '{}' and in_force.kind = 'load' loop
      execute format($query$
        select c.id, c.cost
          from (
            select s.id,
                %s(s, coalesce(($3 ->> s.id::text)::int, 0) + 1) * 100 / s.weight as cost
              from unnest($1) s
             where s.id = any ($2)
               and s.assigned + coalesce(($4 ->> s.id::text)::int, 0)
                 < coalesce(s.max_assignments, 2147483647)) c
         where c.cost is not null
         order by c.cost, c.id
         limit 1
        $query$, in_force.cost_function)
        into target
        using nodes, open, shift, comes;
      exit when target.id is null;
      mover := null;
      for source in execute format($query$
        select c.id, c.cost
          from (
            select s.id, %s(s, coalesce(($3 ->> s.id::text)::int, 0)) * 100 / s.weight as cost
              from unnest($1) s
             where s.id = any ($2)) c
         where c.cost > $4 + 1e-9
         order by c.cost desc, c.id
        $query$, in_force.cost_function)
        using nodes, sources, shift, target.cost
      loop
        select a.* into mover
          from mooring.assignment a
         where a.node_id = source.id
           and a.wanted = 'run'
           and a.ordinal is not null
           and a.move_reason is null
           and a.assigned_at <= came_before
           and a.signature = any (kind.signatures)
           and a.id <> all (planned)
           and a.handover is null
           and a.id <> all (handed_over)
           and (a.handover_failed_at is null or a.handover_failed_at < tried_before)
           and not exists (
             select from mooring.assignment b
              where b.deployment_id = a.deployment_id
                and (b.node_id = target.id or b.move_to = target.id))
           and not exists (
             select from unnest(planned_deployments, planned_nodes) p (deployment_id, node_id)
              where p.deployment_id = a.deployment_id and p.node_id = target.id)
         order by a.assigned_at desc, a.id desc
         limit 1;
        exit when mover.id is not null;
      end loop;
      if mover.id is null then
        -- what could come here has another replica here, or costs no more where it is
        open := array_remove(open, target.id);
      else
        planned := planned || mover.id;
        planned_deployments := planned_deployments || mover.deployment_id;
        planned_nodes := planned_nodes || target.id;
        shift := shift || jsonb_build_object(
          source.id, coalesce((shift ->> source.id::text)::int, 0) - 1,
          target.id, coalesce((shift ->> target.id::text)::int, 0) + 1);
        comes := comes || jsonb_build_object(
          target.id, coalesce((comes ->> target.id::text)::int, 0) + 1);
        budget := budget - 1;
        assignment_id := mover.id;
        deployment_id := mover.deployment_id;
        from_node := source.id;
        to_node := target.id;
        gain := source.cost - target.cost;
        return next;
      end if;
    end loop;
  end loop;
end;
$$;
comment on function mooring_internal.plan_rebalance(int) is
  'At most max_moves moves that part replicas on one node (each gains 1) or make the load more '
  'even, with what each gains under its policy. Locks and writes nothing.';
