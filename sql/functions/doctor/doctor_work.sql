-- Checks that what shall run does run.
create or replace function mooring_internal.doctor_work()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  w record;
  inconsistent text[];
begin
  -- a policy that places nothing is the user's choice
  select sum(q.waiting) as waiting,
      max(asked_at - q.since) as oldest,
      string_agg(
        format('%s x %s', q.waiting, coalesce(q.reason, 'it is placed by the next round')),
        '; ' order by q.waiting desc, q.reason) filter (where q.nr <= 3) as reasons,
      max(q.nr) as kinds
    into w
    from (
      select r.reason,
          count(*) as waiting,
          min(a.waiting_since) as since,
          row_number() over (order by count(*) desc) as nr
        from mooring.assignment a
        join mooring.deployment d
          on d.id = a.deployment_id
         and coalesce(d.policy, (select s.default_policy from mooring.setting s)) <> 'none'
        left join mooring_internal.pending_reasons() r on r.signature = a.signature
       where a.node_id is null
         and a.wanted = 'run'
         and a.waiting_since < asked_at - interval '1 min'
       group by r.reason) q;
  return query
    select 'waiting work',
        case
          when w.waiting is null then 'ok'
          when w.oldest > interval '10 min' then 'problem'
          else 'warning'
        end,
        case
          when w.waiting is null then 'nothing waits for a node for more than a minute'
          else format(
            '%s for up to %s: %s%s',
            case w.waiting
              when 1 then '1 assignment waits'
              else format('%s assignments wait', w.waiting)
            end,
            mooring_internal.format_duration(w.oldest),
            w.reasons,
            case when w.kinds > 3 then format('; and %s more reasons', w.kinds - 3) else '' end)
        end,
        case
          when w.waiting is not null
            then 'select assignment_id, package_name, waiting_since, reason from mooring.unplaced;'
        end;
  inconsistent := array(
    select format('deployment %s', u.id)
      from unnest(mooring_internal.inconsistent_deployments()) u (id)
     order by u.id);
  return query
    select 'assignments',
        case when inconsistent = '{}' then 'ok' else 'warning' end,
        case
          when inconsistent = '{}' then 'are what the deployments want'
          else 'are not what the deployments want: '
            || mooring_internal.abbreviate_list(inconsistent)
        end,
        case
          when inconsistent <> '{}'
            then 'select from mooring.evict(); as the evict round does by itself. Where that does '
              'not help, another transaction locks their rows, or triggers are switched off.'
        end;
  select count(*) as runs,
      array_agg(
        format(
          '%s: assignment %s%s: %s',
          coalesce(f.name, 'deployment ' || f.deployment_id),
          f.assignment_id,
          coalesce(' on ' || f.node, ''),
          left(f.reason, 120))
        order by f.restarts desc, f.assignment_id) as examples,
      min(f.assignment_id) as first
    into w
    from mooring.failing f
   where f.restarts >= 3 or f.run_state <> 'backoff';
  return query
    select 'failing work',
        case when w.runs = 0 then 'ok' else 'warning' end,
        case
          when w.runs = 0 then 'nothing fails again and again'
          else format(
            '%s again and again: %s',
            case w.runs when 1 then '1 fails' else format('%s fail', w.runs) end,
            mooring_internal.abbreviate_list(w.examples, 2))
        end,
        case
          when w.runs > 0
            then format('mooring logs %s; select * from mooring.failing;', w.first)
        end;
  select array_agg(
        format(
          '%s: two of it on %s, %s has none',
          coalesce(d.name, 'deployment ' || d.id),
          f.name,
          t.name)
        order by d.name, d.id) as twins
    into w
    from mooring_internal.plan_partings(100) p
    join mooring.deployment d on d.id = p.deployment_id
    join mooring.node f on f.id = p.from_node
    join mooring.node t on t.id = p.to_node;
  return query
    select 'twins',
        case when w.twins is null then 'ok' else 'warning' end,
        case
          when w.twins is null then 'no replicas share a node that could be parted'
          else 'one host would take both: ' || mooring_internal.abbreviate_list(w.twins)
        end,
        case
          when w.twins is not null
            then 'mooring rebalance --apply; select * from mooring.rebalance(10, dry_run => false);'
        end;
  -- What is being installed or was just inserted is not down: none of its instances is in trouble.
  select array_agg(
        format(
          '%s: 0 of %s running, %s',
          coalesce(d.name, 'deployment ' || d.id),
          i.wanted,
          left(coalesce(i.reason, 'it waits for a node'), 160))
        order by d.name, d.id) as down,
      min(d.id) as first
    into w
    from (
      select p.deployment_id,
          count(*) as wanted,
          max(
            case
              when p.run_state = 'unknown' then format('%s is silent', p.node)
              when p.node is not null then coalesce(p.last_error, p.run_state)
            end) as reason
        from mooring.placement p
        left join mooring.heartbeat h on h.node = p.node
       where p.wanted = 'run'
         and p.handover is null
         and p.policy <> 'none'
       group by p.deployment_id
      having bool_and(
        case
          when p.node is null then p.waiting_since < asked_at - interval '1 min'
          when p.run_state = 'unknown' then h.beat_at < asked_at - interval '1 min'
          when p.run_state = 'backoff' then p.restarts >= 3
          else coalesce(p.run_state in ('failed', 'refused'), false)
        end)) i
    join mooring.deployment d on d.id = i.deployment_id and d.enabled;
  return query
    select 'deployments',
        case when w.down is null then 'ok' else 'problem' end,
        case
          when w.down is null then 'none that shall run is down'
          else format(
            '%s down: %s',
            case cardinality(w.down)
              when 1 then '1 is'
              else format('%s are', cardinality(w.down))
            end,
            mooring_internal.abbreviate_list(w.down))
        end,
        case
          when w.down is not null then format(
            'mooring describe deployment id:%s; '
            'select name, node, reason from mooring.failing; '
            'select name, reason from mooring.unplaced;',
            w.first)
        end;
  select array_agg(
        format(
          '%s: %s left, %s', p.node, p."left", left(coalesce(p.why, 'its deadline is over'), 200))
        order by p.since) as stuck,
      count(*) as draining,
      min(p.node) filter (where p.blocked > 0) as first
    into w
    from (
      select d.*,
          d.blocked > 0 or d.deadline_at < asked_at or d.why is not null as is_stuck
        from mooring.drain_progress d
       where not d.done) p
   where p.is_stuck;
  return query
    select 'drains',
        case when w.stuck is null then 'ok' else 'warning' end,
        coalesce(mooring_internal.abbreviate_list(w.stuck, 2), 'none is stuck'),
        case
          when w.stuck is not null then case
            when w.first is null then 'select * from mooring.drain_progress;'
            else format(
              'give that work another node, set a deadline with drain_node(), '
              'or select mooring.undrain_node(%L);',
              w.first)
          end
        end;
end;
$$;
comment on function mooring_internal.doctor_work() is
  'Theme of doctor(): what waits, inconsistent deployments, what fails, twins '
  'that could be parted, deployments that are down, drains that are stuck.';
