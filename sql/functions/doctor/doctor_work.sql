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
            '%s assignments wait for up to %s: %s%s',
            w.waiting,
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
          'assignment %s: %s', r.assignment_id, left(coalesce(r.last_error, r.state), 120))
        order by r.restarts desc, r.assignment_id) as examples,
      min(r.assignment_id) as first
    into w
    from mooring.run r
    join mooring.assignment a
      on a.id = r.assignment_id and a.epoch = r.epoch and a.node_id is not null
   where r.state in ('failed', 'backoff') and (r.restarts >= 3 or r.state = 'failed');
  return query
    select 'failing work',
        case when w.runs = 0 then 'ok' else 'warning' end,
        case
          when w.runs = 0 then 'nothing fails again and again'
          else format(
            '%s fail again and again: %s',
            w.runs,
            mooring_internal.abbreviate_list(w.examples, 2))
        end,
        case
          when w.runs > 0 then format(
            'mooring logs %s; select assignment_id, node, restarts, last_error '
            'from mooring.placement where run_state in (''failed'', ''backoff'');',
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
  'Theme of doctor(): what waits, inconsistent deployments, what fails, drains that are stuck.';
