-- advance_drains: one step of every drain, at the end of each claim(): so at each release, which asks for one, and at each place round. It starts from
-- the rows as they are, remembers nothing, and runs under the placement lock: what a claim in flight gave the node before the drain was committed is seen
-- by the next step. A node has at most drain_max_moves of its assignments on their way: stopping, waiting for their place, or not yet seen running there. An old copy that
-- stops after its successor took over is none of them: nothing depends on it any more.
-- Nothing is stopped that no other node could take (see drain_progress.why), and a place is kept for what is stopped; both end with the deadline.
-- A silent node is left to reap(). A drain that fails becomes an event, and the others go on.
-- Nobody places meanwhile. So where it could go is asked when a move got on, when a node was edited, and twice a round, not for every INSERT; and for a tenth of a
-- second at most, in no order, deadlines first: of a hundred draining nodes that are stuck each has its turn within a few rounds, and claims go on between.
-- locks: assignment rows, node (both skip locked); the caller holds placement
create or replace function mooring_internal.advance_drains(progress boolean default false) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  started_at timestamptz := clock_timestamp();
  arrived bigint[];
  host mooring.node;
  class record;
  nodes mooring.node_state[];
  owned int;
  budget int;
  forced boolean;
  asked boolean;
  reason text;
  locked bigint[];
  chosen int[];
  step record;
begin
  -- seen running, or failing, where it went: the move is over
  select array_agg(m.assignment_id) into arrived
    from mooring_internal.moves_under_way() m join mooring.run r on r.assignment_id = m.assignment_id and r.epoch = m.epoch
   where m.node_id is not null and not m.stopping and m.handover is null and r.state not in ('installing', 'starting');
  -- an update of nothing would still fire the triggers of assignment
  if arrived is not null then
    update mooring.assignment a set move_reason = null
     where a.id = any (array(select l.id from mooring.assignment l where l.id = any (arrived) and l.move_reason is not null and l.move_to is null and l.wanted = 'run' for no key update skip locked));
  end if;
  if not exists (select from mooring.node n where n.draining_since is not null) then
    return;
  end if;
  asked := advance_drains.progress or arrived is not null or exists (
    select from mooring_internal.round r
     where r.name = 'place' and (r.done_at not between started_at - mooring_internal.round_interval('place') / 2 and started_at or exists (select from mooring.node n where n.updated_at >= r.done_at)));
  for host in select n.* from mooring.node n where n.draining_since is not null order by n.drain_deadline_at <= clock_timestamp() desc nulls last, random() loop
    exit when clock_timestamp() > started_at + interval '100 ms';
    begin
      select count(*) into owned from mooring.assignment a where a.node_id = host.id and a.ordinal is not null;
      if (owned = 0) <> (host.drained_at is not null) then
        update mooring.node n set drained_at = case when owned = 0 then clock_timestamp() end
         where n.id = (select l.id from mooring.node l where l.id = host.id and l.draining_since is not null for no key update skip locked);
        if found and owned = 0 then
          perform mooring_internal.add_event('node_drained', 'nothing is left on it', host.id, jsonb_build_object('total', host.drain_total));
        end if;
      end if;
      continue when owned = 0 or not asked or not exists (select from mooring.heartbeat h where h.node_id = host.id and mooring_internal.node_is_live(h));
      forced := coalesce(host.drain_deadline_at <= clock_timestamp(), false);
      reason := host.name || case when forced then ' is drained, and the deadline is over' else ' is drained' end;
      budget := case when forced then owned else coalesce(host.drain_max_moves, (select s.drain_max_moves from mooring.setting s)) - (select count(*) from mooring_internal.moves_under_way() m where m.from_node = host.id and m.handover is distinct from 'leaving') end;
      continue when budget <= 0;
      for class in select o.* from mooring_internal.drain_targets(host.id) o where o.node_ids <> '{}' loop
        exit when budget <= 0;
        select array_agg(l.id) into locked
          from (select a.id from mooring.assignment a where a.id = any (class.ids) and a.node_id = host.id and a.wanted = 'run' order by a.id limit budget for no key update skip locked) l;
        continue when locked is null;
        -- with the places that were kept a moment ago
        select array_agg(s) into nodes from mooring_internal.node_states() s;
        -- no last nodes: what is sent away is not asked where it was before
        step := mooring_internal.place_class(nodes, '{}', (class.policy, null, class.node_ids)::mooring_internal.placement_class, locked,
          array(select a.deployment_id from unnest(locked) with ordinality u (id, nr) join mooring.assignment a on a.id = u.id order by u.nr), '{}', true);
        chosen := step.chosen;
        continue when chosen = '{}';
        perform mooring_internal.order_moves(locked[1:cardinality(chosen)], chosen, reason, forced);
        budget := budget - cardinality(chosen);
      end loop;
      if forced then
        perform mooring_internal.order_moves(array(select a.id from mooring.assignment a where a.node_id = host.id and a.wanted = 'run' and a.ordinal is not null order by a.id for no key update skip locked), null, reason, true);
      end if;
    exception when others then
      perform mooring_internal.add_event('drain_failed', sqlerrm, host.id);
    end;
  end loop;
end;
$$;
comment on function mooring_internal.advance_drains(boolean) is 'Moves the next of what draining nodes still run; part of every claim(), which says whether it placed something that is moved.';
