-- Gives pending assignments to nodes. The heart of Mooring; README.md shows the steps.
--   1. moves to a node by name, see place_moves()
--   2. pending work in queue order (updated_at, created_at, id), in windows of setting.claim_window
--      rows: lock the window, choose places class by class, one UPDATE, one INSERT of events
--   3. the next step of handovers and drains, see advance_handovers() and advance_drains()
-- A row that another transaction holds waits for the next round, because the lock skips it.
-- When the policy of a class fails, an event says so, and the other classes go on.
-- Loads are exact because placement is serialised. A node whose lease ends meanwhile is reaped like
-- any other. Returns the assignments it placed.
-- locks: placement, then assignment rows (skip locked); never heartbeat rows
create or replace function mooring.claim(max_rows int default null)
  returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- arrays look huge to the planner; compiling such a query takes longer than running it
  set jit = off
as $$
declare
  setting mooring.setting;
  nodes mooring.node_state[];
  awaited int[];
  -- deployments whose turn comes when a deleted one of their name has stopped
  namesakes bigint[];
  -- places given since the loads in nodes were added up
  given int[] := '{}';
  step record;
  why text;
  classes mooring_internal.placement_class[];
  class_of jsonb;
  class mooring_internal.placement_class;
  class_of_work record;
  chosen int[];
  queue bigint[];
  queue_updated_at timestamptz[];
  queue_created_at timestamptz[];
  tail record;
  remaining int := coalesce(max_rows, 2147483647);
  moved int;
  handed_over boolean;
  in_hold boolean;
  -- the window's decisions, row by row
  ids bigint[];
  deployments bigint[];
  epochs bigint[];
  owners int[];
  leases interval[];
  rules text[];
  last_nodes int[];
  -- read once, not for each row
  first_epoch bigint := mooring_internal.next_epoch(0);
begin
  if max_rows < 1 then
    raise exception using errcode = 'MR007',
      message = format('max_rows is %s', max_rows),
      hint = 'Leave it out to place everything, or give 1 or more.';
  end if;
  if not mooring_internal.lock_placement() then
    return;
  end if;
  -- asked after the lock, because a hold may have begun during the wait for it
  in_hold := mooring_internal.notice_outage();
  if in_hold then
    -- the round is done, as nothing may be placed; otherwise every heartbeat of the hold would be
    -- answered that rounds are overdue
    perform mooring_internal.finish_round('place');
    return;
  end if;
  -- also where nothing is pending: a restart is a move by name and appends to node_load too
  perform mooring_internal.fold_node_load();
  -- a move has been promised its place, so it goes before the policy chooses
  return query
    select m.* from mooring_internal.place_moves(max_rows => max_rows) m;
  get diagnostics moved = row_count;
  remaining := remaining - moved;
  -- read before the eligible nodes: a node that registers in between is still awaited, and the
  -- claim that its registration requests finds it
  awaited := mooring_internal.awaited_nodes();
  namesakes := array(select w.deployment_id from mooring_internal.waiting_for_namesakes() w);
  select array_agg(p) into classes from mooring_internal.placeable_classes() p;
  if classes is not null then
    select jsonb_object_agg(s.signature, c.nr) into class_of
      from unnest(classes) with ordinality c (policy, signatures, node_ids, nr)
     cross join lateral unnest(c.signatures) s (signature);
    select s.* into setting from mooring.setting s;
    select array_agg(s) into nodes from mooring_internal.node_states() s;
    select '-infinity'::timestamptz as updated_at, '-infinity'::timestamptz as created_at,
        0::bigint as id
      into tail;
  end if;
  while classes is not null and remaining > 0 loop
    -- every row up to tail was placed, is locked elsewhere, waits for awaited nodes, or has no
    -- room, so the next window starts behind it
    select array_agg(q.id order by q.updated_at, q.created_at, q.id),
        array_agg(q.updated_at order by q.updated_at, q.created_at, q.id),
        array_agg(q.created_at order by q.updated_at, q.created_at, q.id)
      into queue, queue_updated_at, queue_created_at
      from (select a.id, a.updated_at, a.created_at
              from unnest(classes) c
             cross join lateral unnest(c.signatures) s (signature)
             cross join lateral (
               select a.id, a.updated_at, a.created_at
                 from mooring.assignment a
                where a.node_id is null
                  and a.wanted = 'run'
                  and a.signature = s.signature
                  and (a.updated_at, a.created_at, a.id)
                    > (tail.updated_at, tail.created_at, tail.id)
                order by a.updated_at, a.created_at, a.id
                limit least(setting.claim_window, remaining)) a
             order by a.updated_at, a.created_at, a.id
             limit least(setting.claim_window, remaining)) q;
    exit when queue is null;
    select queue_updated_at[cardinality(queue)] as updated_at,
        queue_created_at[cardinality(queue)] as created_at,
        queue[cardinality(queue)] as id
      into tail;
    ids := '{}';
    deployments := '{}';
    epochs := '{}';
    owners := '{}';
    leases := '{}';
    rules := '{}';
    last_nodes := '{}';
    for class_of_work in
      -- Two rules of this query, README.md has their reasons: it joins by primary key only, and the
      -- statement that locks has no condition that an index of the queue could answer.
      with locked as materialized (
        select a.id, a.deployment_id, a.epoch, a.node_id, a.wanted, a.updated_at, a.created_at,
            a.last_node_id, (class_of ->> a.signature::text)::int as nr
          from mooring.assignment a
         where a.id = any (queue) and (awaited is null or a.last_node_id is null)
           for update skip locked
      )
      select l.nr, bool_or(d.replicas > 1) as replicated,
          array_agg(l.id order by l.updated_at, l.created_at, l.id) as ids,
          array_agg(l.deployment_id order by l.updated_at, l.created_at, l.id) as deployments,
          array_agg(greatest(l.epoch + 1, first_epoch)
            order by l.updated_at, l.created_at, l.id) as epochs,
          array_agg(coalesce(d.lease_ttl, setting.lease_ttl)
            order by l.updated_at, l.created_at, l.id) as leases,
          array_agg(l.last_node_id order by l.updated_at, l.created_at, l.id) as last_nodes
        from locked l
        join mooring.deployment d on d.id = l.deployment_id and d.enabled
       -- a row that was edited, stopped or placed by hand meanwhile waits for the next claim
       where l.node_id is null and l.wanted = 'run' and l.nr is not null
         and l.deployment_id <> all (namesakes)
       group by l.nr
       order by l.nr
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
          class_of_work.replicated);
        nodes := step.nodes_now;
        chosen := step.chosen;
        why := step.rule;
        given := chosen;
      exception when others then
        -- once a minute is enough, however often it is tried
        if not exists (
          select from mooring.last_events(1000) l
           where l.kind = 'claim_failed'
             and l.at > clock_timestamp() - interval '1 min'
             and l.detail ->> 'policy' = class.policy)
        then
          perform mooring_internal.add_event(
            'claim_failed',
            format('policy %s failed: %s', class.policy, sqlerrm),
            detail => jsonb_build_object('policy', class.policy));
        end if;
        chosen := '{}';
      end;
      if cardinality(chosen) < cardinality(class_of_work.ids) then
        -- no room left, so the work behind it is not read again; the class stays, without
        -- signatures, so that nr keeps its meaning
        classes[class_of_work.nr] :=
          (class.policy, '{}', '{}')::mooring_internal.placement_class;
      end if;
      ids := ids || class_of_work.ids[1:cardinality(chosen)];
      deployments := deployments || class_of_work.deployments[1:cardinality(chosen)];
      epochs := epochs || class_of_work.epochs[1:cardinality(chosen)];
      leases := leases || class_of_work.leases[1:cardinality(chosen)];
      owners := owners || chosen;
      rules := rules || array_fill(why, array[cardinality(chosen)]);
      last_nodes := last_nodes || class_of_work.last_nodes[1:cardinality(chosen)];
    end loop;
    if array_remove(last_nodes, null) <> '{}' then
      rules := array(
        select case when u.node_id = u.last_node_id
                    then 'back on its last node, ' || u.rule || ' or near it'
                    else u.rule end
          from unnest(rules, owners, last_nodes)
            with ordinality u (rule, node_id, last_node_id, nr)
         order by u.nr);
    end if;
    return query
      update mooring.assignment a
         set node_id = p.node_id, epoch = p.epoch, lease_ttl = p.lease_ttl,
             owner_reason = p.rule, assigned_at = clock_timestamp(), waiting_since = null,
             move_to = null
        from unnest(ids, owners, epochs, leases, rules) p (id, node_id, epoch, lease_ttl, rule)
       -- named twice: by the join alone the planner may read the whole table for each window
       where a.id = p.id and a.id = any (ids)
      returning a.*;
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select 'claimed', p.id, p.deployment_id, p.node_id, n.name, p.epoch, p.rule,
        (select mooring_internal.actor())
      from unnest(ids, deployments, owners, epochs, rules)
        with ordinality p (id, deployment_id, node_id, epoch, rule, nr)
      join mooring.node n on n.id = p.node_id
     order by p.nr;
    -- a window that was not full held everything; work that commits meanwhile has requested a claim
    -- of its own, which waits for this one
    exit when cardinality(queue) < least(setting.claim_window, remaining);
    remaining := remaining - cardinality(ids);
  end loop;
  handed_over := mooring_internal.advance_handovers();
  perform mooring_internal.advance_drains(progress => moved > 0 or handed_over);
  perform mooring_internal.finish_round('place');
end;
$$;
comment on function mooring.claim(int) is
  'Places pending assignments on eligible nodes, at most max_rows of them, in queue order; '
  'returns those it placed.';
