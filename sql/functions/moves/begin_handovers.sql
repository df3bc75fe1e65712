-- Handovers: how start-first work is moved. A second row of the same replica, the successor, is born on the target (handover = 'arriving'), with an id and an epoch of
-- its own, while the old row runs on. When the successor runs, the old row becomes the one that is leaving, and is deleted when its processes are gone.
--   A replica has one row with handover null, at any time, and at most one beside it. The row beside it always has an owner: only the replica itself ever waits in
--   the queue, and it never waits while there is a copy. So claim(), unplaced and what-if know nothing of handovers.
--   Whoever loses the replica's row while there is a copy makes the copy the replica: see release().
--   Handovers begin, end and are given up under the placement lock, and under the lock of both rows.

-- The rows beside the replicas: few at any time, found by their own index; see moves() for why the planner is not asked.
create or replace function mooring.copies() returns table (id bigint, handover text, wanted text, deployment_id bigint, node_id int, replica bigint)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
  set enable_nestloop = on
as $$
#variable_conflict use_column
begin
  return query
    select c.id, c.handover, c.wanted, c.deployment_id, c.node_id, a.id
      from mooring.assignment c left join mooring.assignment a on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
     where c.handover is not null;
end;
$$;
comment on function mooring.copies() is 'The second rows of replicas that are being handed over, each with the replica it belongs to.';

-- Who is who, for events and reasons.
create or replace function mooring.handover_detail(from_id bigint, from_node int, to_id bigint, to_node int) returns jsonb
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select jsonb_build_object('from', jsonb_build_object('assignment', handover_detail.from_id, 'node', (select n.name from mooring.node n where n.id = handover_detail.from_node)),
    'to', jsonb_build_object('assignment', handover_detail.to_id, 'node', (select n.name from mooring.node n where n.id = handover_detail.to_node))));
comment on function mooring.handover_detail(bigint, int, bigint, int) is 'Detail of an event about a handover: from and to, each with assignment and node.';

-- Makes the successors of those of these assignments that are start-first and run. What does not run at the moment has nothing to keep up and is moved stop-first, so
-- that a drain ends although something is broken everywhere. Returns the ids of those that got one.
-- locks: none beyond the rows, which the caller has locked; the caller holds placement
create or replace function mooring.begin_handovers(ids bigint[], nodes int[], reason text) returns bigint[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  begun bigint[];
begin
  -- with its row written, whoever judges the replica by a snapshot from before (a delete under repeatable read) fails to serialise, instead of overlooking the successor
  with wish as materialized (
    select a.*, o.node_id as to_node, coalesce(d.lease_ttl, s.lease_ttl) as new_lease_ttl
      from unnest(begin_handovers.ids, begin_handovers.nodes) o (id, node_id)
      join mooring.assignment a on a.id = o.id and a.wanted = 'run' and a.handover is null and a.node_id <> o.node_id
      join mooring.deployment d on d.id = a.deployment_id and d.handover = 'start-first' and d.enabled and a.ordinal < d.replicas
      join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch and r.state = 'running'
     cross join mooring.setting s
  ),
  born as (
    insert into mooring.assignment (deployment_id, ordinal, handover, signature, refused_by, node_id, epoch, lease_ttl, owner_reason, move_reason, last_node_id, assigned_at, created_at, updated_at)
    select w.deployment_id, w.ordinal, 'arriving', w.signature, w.refused_by, w.to_node, mooring.next_epoch(0), w.new_lease_ttl, 'moved: ' || begin_handovers.reason, begin_handovers.reason, w.node_id,
        clock_timestamp(), w.created_at, w.updated_at
      from wish w order by w.id
    returning *
  ),
  followed as (
    update mooring.assignment a set handover_failed_at = null, handover_error = null from wish w where a.id = w.id
  ),
  logged as (
    insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select e.kind, e.id, e.deployment_id, e.node_id, n.name, e.epoch, e.reason, e.detail
      from (select 'move_wanted' as kind, w.id, w.deployment_id, w.node_id, w.epoch, begin_handovers.reason as reason, mooring.handover_detail(w.id, w.node_id, b.id, b.node_id) || jsonb_build_object('handover', 'start-first') as detail
              from wish w join born b on b.deployment_id = w.deployment_id and b.ordinal = w.ordinal
            union all
            select 'claimed', b.id, b.deployment_id, b.node_id, b.epoch, b.owner_reason, null from born b) e
      left join mooring.node n on n.id = e.node_id order by e.kind desc, e.id
  )
  select array_agg(w.id) into begun from wish w;
  return coalesce(begun, '{}');
end;
$$;
comment on function mooring.begin_handovers(bigint[], int[], text) is 'Starts successors of running start-first assignments on the nodes beside them; returns the assignments that got one.';

-- One look at every handover, at the end of each claim(): a successor that runs, and has run for setting.handover_settle, takes over; one that cannot come, or does not
-- come up, is given up, and what it was to follow runs on untouched. That it takes over is decided here and not in the report that says it runs: under the placement lock
-- one decides, an agent's call writes no other node's row, and a process that ends a moment after its start has not run. True when any got on.
-- locks: assignment rows (skip locked); the caller holds placement
create or replace function mooring.advance_handovers() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  at timestamptz := clock_timestamp();
  setting mooring.setting;
  concerned bigint[];
  locked bigint[];
  pair record;
  got_on boolean := false;
begin
  select array_agg(c.id) || array_remove(array_agg(c.replica), null) into concerned from mooring.copies() c where c.handover = 'arriving' and c.wanted = 'run';
  if concerned is null then
    return false;
  end if;
  select s.* into setting from mooring.setting s;
  select array_agg(l.id) into locked from (select a.id from mooring.assignment a where a.id = any (concerned) order by a.id for no key update skip locked) l;
  -- judged by a later statement than the one that locked; what was disabled or deleted meanwhile is ordered to stop already
  for pair in
    select c as copy, a as replica, n.name as to_name,
        mooring.handover_detail(a.id, a.node_id, c.id, c.node_id) as detail,
        -- what nobody could have waited for is no failure: the next one is tried at once
        j.verdict, d.handover = 'start-first' and n.draining_since is null and not h.leaving as rests
      from mooring.assignment c
      join mooring.deployment d on d.id = c.deployment_id and d.enabled and c.ordinal < d.replicas
      join mooring.node n on n.id = c.node_id
      join mooring.heartbeat h on h.node_id = c.node_id
      left join mooring.assignment a on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
      left join mooring.run r on r.assignment_id = c.id and r.epoch = c.epoch
     cross join lateral (
       select case
           when d.handover <> 'start-first' then 'its deployment is stop-first now'
           when r.state = 'running' and r.last_active_at <= at - setting.handover_settle and mooring.node_is_live(h) then 'it runs'
           when n.draining_since is not null or h.leaving then 'its node is draining or its agent is stopping'
           when r.state in ('backoff', 'failed') and r.restarts >= 3 then 'it does not stay up there' || coalesce(': ' || r.last_error, '')
           when c.assigned_at < at - setting.handover_timeout then format('it does not run there after %s', setting.handover_timeout) || coalesce(': ' || r.last_error, '')
         end as verdict) j
     where c.id = any (locked) and c.handover = 'arriving' and c.wanted = 'run' and (a.id is null or a.id = any (locked)) and j.verdict is not null
     order by c.id
  loop
    got_on := true;
    if pair.verdict = 'it runs' then
      -- first the old one: there is one replica at any time
      update mooring.assignment a
         set handover = 'leaving', wanted = 'stop', stop_reason = format('handed over to assignment %s on %s', (pair.copy).id, pair.to_name), move_to = null, move_reason = (pair.copy).move_reason
       where a.id = (pair.replica).id;
      update mooring.assignment a set handover = null, move_reason = null where a.id = (pair.copy).id;
    else
      update mooring.assignment a set wanted = 'stop', stop_reason = pair.verdict where a.id = (pair.copy).id;
      if pair.rests then
        update mooring.assignment a set handover_failed_at = at, handover_error = format('its successor on %s: %s', pair.to_name, pair.verdict) where a.id = (pair.replica).id;
      end if;
    end if;
    insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select case when pair.verdict = 'it runs' then 'handed_over' else 'handover_failed' end, o.id, (pair.copy).deployment_id, o.node_id, n.name, o.epoch,
        case when pair.verdict = 'it runs' then format('its successor runs: assignment %s on %s', (pair.copy).id, pair.to_name) else 'its successor is given up: ' || pair.verdict end, pair.detail
      from (select coalesce((pair.replica).id, (pair.copy).id) as id, coalesce((pair.replica).node_id, (pair.copy).node_id) as node_id, coalesce((pair.replica).epoch, (pair.copy).epoch) as epoch) o
      left join mooring.node n on n.id = o.node_id;
  end loop;
  return got_on;
end;
$$;
comment on function mooring.advance_handovers() is 'Lets successors that run take over and gives up those that do not come up; part of every claim().';

-- For verbs that order something of one assignment: both rows of a replica that is being handed over are left alone.
create or replace function mooring.refuse_in_handover(asked mooring.assignment) returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  other record;
begin
  select c.id, c.handover, n.name as node_name into other
    from mooring.copies() k join mooring.assignment c on c.id <> asked.id and c.id in (k.id, k.replica) left join mooring.node n on n.id = c.node_id
   where asked.id in (k.id, k.replica);
  if other.id is not null then
    raise exception using errcode = 'MR006', message = format('assignment %s %s', asked.id, case
        when asked.handover = 'arriving' then format('is the successor of assignment %s on %s and does not run yet', other.id, other.node_name)
        when asked.handover = 'leaving' then format('has been handed over to assignment %s on %s', other.id, other.node_name)
        when other.handover = 'arriving' then format('is being handed over to assignment %s on %s', other.id, other.node_name)
        else format('has taken over from assignment %s, which still stops on %s', other.id, other.node_name) end),
      hint = case when asked.handover = 'leaving' then format('Assignment %s has taken its place.', other.id) else 'Wait until it is done: mooring events -f, or select * from mooring.last_events(20).' end;
  end if;
end;
$$;
comment on function mooring.refuse_in_handover(mooring.assignment) is 'Raises MR006 when the assignment is one of two rows of a replica that is being handed over.';
