-- advance_drains: one step of every drain, at the end of each claim(). The README tells how a drain
-- goes on, why it is asked as seldom as it is, and why it never waits.
-- It starts from the rows as they are and remembers nothing. It runs under the placement lock, so
-- what a claim in flight gave the node before the drain was committed is found by the next step.
-- progress: a move got on since the last step, so the targets are worth another look.
-- locks: assignment rows, node (both skip locked); the caller holds placement
create or replace function mooring_internal.advance_drains(progress boolean default false)
  returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  started_at timestamptz := clock_timestamp();
  arrived bigint[];
  source mooring.node;
  class record;
  nodes mooring.node_state[];
  owned int;
  budget int;
  forced boolean;
  asked boolean;
  reason text;
  allowed bigint[];
  locked bigint[];
  chosen int[];
  step record;
begin
  -- observed running, or failing, at its target: the move is complete
  select array_agg(m.assignment_id) into arrived
    from mooring_internal.moves_under_way() m
    join mooring.run r on r.assignment_id = m.assignment_id and r.epoch = m.epoch
   where m.node_id is not null
     and not m.stopping
     and m.handover is null
     and r.state not in ('installing', 'starting');
  -- an update of no row would still fire the triggers of assignment
  if arrived is not null then
    update mooring.assignment a
       set move_reason = null
     where a.id = any (array(
       select l.id
         from mooring.assignment l
        where l.id = any (arrived)
          and l.move_reason is not null
          and l.move_to is null
          and l.wanted = 'run'
          for no key update skip locked));
  end if;
  if not exists (select from mooring.node n where n.draining_since is not null) then
    return;
  end if;
  asked := advance_drains.progress
    or arrived is not null
    or exists (
      select from mooring_internal.round r
       where r.name = 'place'
         and (
           r.done_at not between started_at - mooring_internal.round_interval('place') / 2
             and started_at
           or exists (select from mooring.node n where n.updated_at >= r.done_at)));
  for source in
    select n.*
      from mooring.node n
     where n.draining_since is not null
     order by n.drain_deadline_at <= clock_timestamp() desc nulls last, random()
  loop
    exit when clock_timestamp() > started_at + interval '100 ms';
    begin
      select count(*) into owned
        from mooring.assignment a
       where a.node_id = source.id and a.ordinal is not null;
      if (owned = 0) <> (source.drained_at is not null) then
        update mooring.node n
           set drained_at = case when owned = 0 then clock_timestamp() end
         where n.id = (
           select l.id
             from mooring.node l
            where l.id = source.id and l.draining_since is not null
              for no key update skip locked);
        if found and owned = 0 then
          perform mooring_internal.add_event(
            'node_drained',
            'nothing is left on it',
            source.id,
            jsonb_build_object('total', source.drain_total));
        end if;
      end if;
      -- a silent node is left to reap()
      continue when owned = 0
        or not asked
        or not exists (
          select from mooring.heartbeat h
           where h.node_id = source.id and mooring_internal.node_is_live(h));
      forced := coalesce(source.drain_deadline_at <= clock_timestamp(), false);
      reason := source.name || case
        when forced then ' is drained, and the deadline has passed'
        else ' is drained'
      end;
      budget := case
        when forced then owned
        else
          coalesce(source.drain_max_moves, (select s.drain_max_moves from mooring.setting s))
          - (
            select count(*)
              from mooring_internal.moves_under_way() m
             where m.from_node = source.id
               and m.handover is distinct from 'leaving')
      end;
      continue when budget <= 0;
      for class in
        select o.*
          from mooring_internal.drain_targets(source.id) o
         where o.node_ids <> '{}'
      loop
        exit when budget <= 0;
        allowed := case
          when forced then class.ids
          else mooring_internal.within_budget(class.ids)
        end;
        select array_agg(l.id) into locked
          from (
            select a.id
              from mooring.assignment a
             where a.id = any (allowed) and a.node_id = source.id and a.wanted = 'run'
             order by a.id
             limit budget
               for no key update skip locked) l;
        continue when locked is null;
        -- read again, because the loads count the places that the class before promised
        select array_agg(s) into nodes
          from mooring_internal.node_states() s;
        -- without last nodes: the node it leaves is no candidate
        step := mooring_internal.place_class(
          nodes,
          '{}',
          (class.policy, null, class.node_ids)::mooring_internal.placement_class,
          locked,
          array(
            select a.deployment_id
              from unnest(locked) with ordinality u (id, nr)
              join mooring.assignment a on a.id = u.id
             order by u.nr),
          '{}',
          true);
        chosen := step.chosen;
        continue when chosen = '{}';
        perform mooring_internal.order_moves(
          locked[1:cardinality(chosen)], chosen, reason, forced);
        budget := budget - cardinality(chosen);
      end loop;
      if forced then
        perform mooring_internal.order_moves(
          array(
            select a.id
              from mooring.assignment a
             where a.node_id = source.id and a.wanted = 'run' and a.ordinal is not null
             order by a.id
               for no key update skip locked),
          null,
          reason,
          true);
      end if;
    exception when others then
      perform mooring_internal.add_event('drain_failed', sqlerrm, source.id);
    end;
  end loop;
end;
$$;
comment on function mooring_internal.advance_drains(boolean) is
  'Moves the next of what draining nodes still run. Part of every claim(), which passes whether a '
  'move got on since the last step.';
