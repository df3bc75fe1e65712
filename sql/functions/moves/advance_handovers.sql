-- One step of every handover, at the end of each claim(). A successor that runs, and has run for
-- setting.handover_settle, takes over. A successor that cannot come, or does not come up, is given
-- up; its predecessor runs on untouched. Returns true when any handover got on. The takeover is
-- decided here and not in the agent's report, for three reasons: only one decides under the
-- placement lock; an agent's call writes no other node's row; a process that ends a moment after
-- its start does not count as running.
-- locks: assignment rows (skip locked); the caller holds placement
create or replace function mooring_internal.advance_handovers() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  judged_at timestamptz := clock_timestamp();
  setting mooring.setting;
  concerned bigint[];
  locked bigint[];
  pair record;
  got_on boolean := false;
begin
  select array_agg(c.id) || array_remove(array_agg(c.replica), null) into concerned
    from mooring_internal.handover_rows() c
   where c.handover = 'arriving' and c.wanted = 'run';
  if concerned is null then
    return false;
  end if;
  select s.* into setting
    from mooring.setting s;
  select array_agg(l.id) into locked
    from (
      select a.id
        from mooring.assignment a
       where a.id = any (concerned)
       order by a.id
         for no key update skip locked) l;
  -- judged by a later statement than the one that locked;
  -- what was disabled or deleted meanwhile has its order to stop already
  for pair in
    select c as successor, a as replica, n.name as to_name,
        mooring_internal.handover_detail(a.id, a.node_id, c.id, c.node_id) as detail,
        j.verdict,
        -- false where waiting would not have helped: the next successor is tried at once
        d.handover = 'start-first' and n.draining_since is null and not h.leaving as rests
      from mooring.assignment c
      join mooring.deployment d
        on d.id = c.deployment_id and d.enabled and not c.surplus
      join mooring.node n on n.id = c.node_id
      join mooring.heartbeat h on h.node_id = c.node_id
      left join mooring.assignment a
        on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
      left join mooring.run r on r.assignment_id = c.id and r.epoch = c.epoch
     cross join lateral (
       select case
           when d.handover <> 'start-first' then 'its deployment is stop-first now'
           when r.state = 'running'
             and r.last_active_at <= judged_at - setting.handover_settle
             and mooring_internal.node_is_live(h)
             then 'it runs'
           when n.draining_since is not null or h.leaving
             then 'its node is draining or its agent is stopping'
           when r.state in ('backoff', 'failed') and r.restarts >= 3
             then 'it does not stay up there' || coalesce(': ' || r.last_error, '')
           when c.assigned_at < judged_at - setting.handover_timeout
             then format('it does not run there after %s', setting.handover_timeout)
               || coalesce(': ' || r.last_error, '')
         end as verdict) j
     where c.id = any (locked)
       and c.handover = 'arriving'
       and c.wanted = 'run'
       and (a.id is null or a.id = any (locked))
       and j.verdict is not null
     order by c.id
  loop
    got_on := true;
    if pair.verdict = 'it runs' then
      -- the predecessor first, so that there is one replica at any time
      update mooring.assignment a
         set handover = 'leaving',
             wanted = 'stop',
             stop_reason = format(
               'handed over to assignment %s on %s', (pair.successor).id, pair.to_name),
             move_to = null,
             move_reason = (pair.successor).move_reason
       where a.id = (pair.replica).id;
      update mooring.assignment a
         set handover = null,
             move_reason = null
       where a.id = (pair.successor).id;
    else
      update mooring.assignment a
         set wanted = 'stop',
             stop_reason = pair.verdict
       where a.id = (pair.successor).id;
      if pair.rests then
        update mooring.assignment a
           set handover_failed_at = judged_at,
               handover_error = format('its successor on %s: %s', pair.to_name, pair.verdict)
         where a.id = (pair.replica).id;
      end if;
    end if;
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select
        case when pair.verdict = 'it runs' then 'handed_over' else 'handover_failed' end,
        o.id,
        (pair.successor).deployment_id,
        o.node_id,
        n.name,
        o.epoch,
        case
          when pair.verdict = 'it runs' then format(
            'its successor runs: assignment %s on %s', (pair.successor).id, pair.to_name)
          else 'its successor is given up: ' || pair.verdict
        end,
        pair.detail
      from (
        select
            coalesce((pair.replica).id, (pair.successor).id) as id,
            coalesce((pair.replica).node_id, (pair.successor).node_id) as node_id,
            coalesce((pair.replica).epoch, (pair.successor).epoch) as epoch) o
      left join mooring.node n on n.id = o.node_id;
  end loop;
  return got_on;
end;
$$;
comment on function mooring_internal.advance_handovers() is
  'Lets successors that run take over, and gives up those that do not come up. '
  'Part of every claim(); true when any handover got on.';
