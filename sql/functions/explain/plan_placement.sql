-- plan_placement: what claim() would do if a node were gone and its work released. It uses the same
-- classes, queue, windows and choice (placeable_classes, place_class) on the present loads.
-- It locks and writes nothing, so it works in a read-only transaction and on a standby.
-- Other pending work takes part, as it would in a claim; only what the node leaves behind is
-- returned.
create or replace function mooring.plan_placement(without_node int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  to_node int,
  reason text
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  lost_ids bigint[];
  lost_signatures uuid[];
  nodes mooring.node_state[];
  classes mooring_internal.placement_class[];
  class_of jsonb;
  class mooring_internal.placement_class;
  class_of_work record;
  queue bigint[];
  queue_signatures uuid[];
  tail record;
  chosen int[];
  given int[] := '{}';
  placed_deployments bigint[];
  placed_nodes int[];
  step record;
  why text;
  promised bigint[];
  ids bigint[] := '{}';
  owners int[] := '{}';
  rules text[] := '{}';
  failures jsonb := '{}';
begin
  select s.* into setting
    from mooring.setting s;
  -- what is being moved away goes to the node it was promised, see place_moves()
  select array_agg(l.id), array_agg(l.move_to), array_agg('moved: ' || l.move_reason),
      array_agg(l.deployment_id)
    into promised, owners, rules, placed_deployments
    from mooring_internal.work_of_lost_node(plan_placement.without_node) l
    join mooring_internal.eligibility(array(
      select b.deployment_id
        from mooring_internal.work_of_lost_node(plan_placement.without_node) b
       where b.move_to is not null)) e
      on e.deployment_id = l.deployment_id and e.node_id = l.move_to
   where l.move_to <> all (l.refused_by)
     and e.permitted
     and e.live
     and e.enabled
     and e.not_draining
     and e.disk_ok;
  promised := coalesce(promised, '{}');
  ids := promised;
  owners := coalesce(owners, '{}');
  placed_deployments := coalesce(placed_deployments, '{}');
  placed_nodes := owners;
  rules := coalesce(rules, '{}');
  select array_agg(l.id), array_agg(l.signature) into lost_ids, lost_signatures
    from mooring_internal.work_of_lost_node(plan_placement.without_node) l
   where l.id <> all (promised);
  select array_agg(p) into classes
    from mooring_internal.placeable_classes(plan_placement.without_node) p;
  if classes is not null then
    select jsonb_object_agg(s.signature, c.nr) into class_of
      from unnest(classes) with ordinality c (policy, signatures, node_ids, nr)
     cross join lateral unnest(c.signatures) s (signature);
    select array_agg(s) into nodes
      from mooring_internal.node_states() s
     where s.id <> plan_placement.without_node;
    select '-infinity'::timestamptz as updated_at, '-infinity'::timestamptz as created_at,
        0::bigint as id
      into tail;
  end if;
  while classes is not null loop
    select
        array_agg(q.id order by q.updated_at, q.created_at, q.id),
        array_agg(q.signature order by q.updated_at, q.created_at, q.id)
      into queue, queue_signatures
      from (
        select w.id, w.signature, w.updated_at, w.created_at
          from unnest(classes) c
         cross join lateral unnest(c.signatures) s (signature)
         cross join lateral (
           (
             select a.id, a.signature, a.updated_at, a.created_at
               from mooring.assignment a
              where a.node_id is null
                and a.wanted = 'run'
                and a.signature = s.signature
                and (a.move_to is null or a.move_to = plan_placement.without_node)
                and (a.updated_at, a.created_at, a.id)
                  > (tail.updated_at, tail.created_at, tail.id)
              order by a.updated_at, a.created_at, a.id
              limit setting.claim_window)
           union all
           select a.id, l.signature, a.updated_at, a.created_at
             from unnest(lost_ids, lost_signatures) l (id, signature)
             join mooring.assignment a on a.id = l.id
            where l.signature = s.signature
              and (a.updated_at, a.created_at, a.id)
                > (tail.updated_at, tail.created_at, tail.id)) w
         order by w.updated_at, w.created_at, w.id
         limit setting.claim_window) q;
    exit when queue is null;
    select a.updated_at, a.created_at, a.id into tail
      from mooring.assignment a
     where a.id = queue[cardinality(queue)];
    for class_of_work in
      select
          (class_of ->> q.signature::text)::int as nr,
          bool_or(d.replicas > 1) as replicated,
          array_agg(a.id order by q.nr) as ids,
          array_agg(a.deployment_id order by q.nr) as deployments,
          array_agg(coalesce(a.node_id, a.last_node_id) order by q.nr) as last_nodes
        from unnest(queue, queue_signatures) with ordinality q (id, signature, nr)
        join mooring.assignment a on a.id = q.id
        join mooring.deployment d on d.id = a.deployment_id and d.enabled
       where a.deployment_id <> all (array(
         select w.deployment_id from mooring_internal.waiting_for_namesakes() w))
       group by 1
       order by 1
    loop
      class := classes[class_of_work.nr];
      begin
        step := mooring_internal.place_class(
          nodes,
          given,
          class,
          class_of_work.ids,
          class_of_work.deployments,
          class_of_work.last_nodes,
          class_of_work.replicated,
          placed_deployments,
          placed_nodes);
        nodes := step.nodes_now;
        chosen := step.chosen;
        why := step.rule;
        given := chosen;
      exception when others then
        failures := failures || jsonb_build_object(class.policy, sqlerrm);
        chosen := '{}';
      end;
      if cardinality(chosen) < cardinality(class_of_work.ids) then
        classes[class_of_work.nr] := (class.policy, '{}', '{}')::mooring_internal.placement_class;
      end if;
      ids := ids || class_of_work.ids[1:cardinality(chosen)];
      owners := owners || chosen;
      if class_of_work.replicated then
        placed_deployments := placed_deployments
          || class_of_work.deployments[1:cardinality(chosen)];
        placed_nodes := placed_nodes || chosen;
      end if;
      rules := rules || array_fill(why, array[cardinality(chosen)]);
    end loop;
    exit when cardinality(queue) < setting.claim_window;
  end loop;
  return query
    select l.id, l.deployment_id, p.node_id, p.rule
      from mooring_internal.work_of_lost_node(plan_placement.without_node) l
      join unnest(ids, owners, rules) p (id, node_id, rule) on p.id = l.id;
  return query
    select a.id, a.deployment_id, c.node_id, 'its successor is there already'
      from mooring_internal.handover_rows() c
      join mooring.assignment a on a.id = c.replica and a.node_id = plan_placement.without_node
     where c.handover = 'arriving' and c.wanted = 'run';
  if cardinality(lost_ids) > 0 and not lost_ids <@ ids then
    return query
      select l.id, l.deployment_id, null::int,
          case
            when failures ? c.policy then
              format('policy %s failed: %s', c.policy, failures ->> c.policy)
            when class_of ? l.signature::text then
              'the nodes that may run it would be full: add a node or raise max_assignments'
            else w.reason
          end
        from mooring_internal.work_of_lost_node(plan_placement.without_node) l
        left join mooring_internal.pending_reasons(plan_placement.without_node) w
          on w.signature = l.signature
       cross join lateral (
         select classes[(class_of ->> l.signature::text)::int].policy as policy) c
       where l.id <> all (ids);
  end if;
end;
$$;
comment on function mooring.plan_placement(int) is
  'Where the work of a node would go if the node were gone. to_node is null where it would go '
  'nowhere, and reason says why. Locks and writes nothing.';
