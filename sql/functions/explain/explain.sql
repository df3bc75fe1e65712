-- explain: one row per node with every predicate, the cost and a verdict. It asks the same relation
-- (eligibility) and the same policy as claim(), so what it says is what claim() does.
create or replace function mooring.explain(deployment bigint) returns table (
  node text,
  verdict text,
  permitted boolean,
  eligible boolean,
  cost float8,
  assigned int,
  here int,
  pin_ok boolean,
  selector_ok boolean,
  driver_ok boolean,
  trust_ok boolean,
  urls_ok boolean,
  live boolean,
  enabled boolean,
  not_draining boolean,
  has_room boolean,
  disk_ok boolean
)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  spec mooring.deployment;
  policy mooring.policy;
  -- the assignment that claim() would place next; an owned one when none is pending
  waiting mooring.assignment;
  nodes mooring.node_state[];
  known text;
begin
  select d.* into spec
    from mooring.deployment d
   where d.id = explain.deployment;
  if spec.id is null then
    select string_agg(k.id::text, ', ') into known
      from (
        select d.id
          from mooring.deployment d
         order by abs(d.id - explain.deployment)
         limit 3) k;
    raise exception using
      errcode = 'MR003',
      message = format(
        'there is no deployment %s', coalesce(explain.deployment::text, 'null')),
      hint = coalesce(
        'The nearest ids are ' || known || '.',
        'There is no deployment at all: insert one.');
  end if;
  select a.* into waiting
    from mooring.assignment a
   where a.deployment_id = spec.id and a.ordinal is not null
   order by a.node_id is not null, a.updated_at, a.created_at, a.id
   limit 1;
  nodes := array(select s from mooring_internal.node_states() s);
  policy := mooring_internal.policy_in_force(
    nodes,
    array(
      select e.node_id
        from mooring_internal.eligibility(array[spec.id]) e
       where e.eligible),
    coalesce(spec.policy, (select s.default_policy from mooring.setting s)),
    waiting.id);
  return query execute format($query$
    with compared as (
      select s as state, e as fit, c.cost, o.here, o.arrives, o.refused,
          coalesce(
            %1$L = 'load'
              and s.id = $4.last_node_id
              and $4.node_id is null
              and c.cost <= min(c.cost) filter (where e.eligible and not o.refused) over ()
                + (select g.sticky_slack from mooring.setting g),
            false) as returns_to_last_node
        from mooring_internal.eligibility(array[$1]) e
        join unnest($3) s on s.id = e.node_id
       cross join lateral (select (%3$s) * 100 / s.weight as cost) c
       cross join lateral (
         select
             (count(*) filter (
               where a.node_id = s.id
                 and a.handover is distinct from 'leaving'))::int as here,
             coalesce(
               bool_and(a.handover = 'arriving') filter (
                 where a.node_id = s.id
                   and a.handover is distinct from 'leaving'),
               false) as arrives,
             coalesce(bool_or(s.id = any (a.refused_by)), false) as refused
           from mooring.assignment a
          where a.deployment_id = $1) o
    )
    select (c.state).name,
        case
          when c.here > 0 and (c.fit).permitted then
            case when c.arrives then 'starts here, as a successor' else 'runs here' end
              || coalesce(
                '; nothing new: ' || mooring_internal.reason_not_eligible(c.fit)
                  || ': ' || mooring_internal.remedy_if_not_eligible(
                    c.fit, n, h, $2, g.disk_free_min_pct),
                '')
          when not (c.fit).eligible then
            'no: ' || mooring_internal.reason_not_eligible(c.fit)
              || ': ' || mooring_internal.remedy_if_not_eligible(
                c.fit, n, h, $2, g.disk_free_min_pct)
          when c.refused then
            'no: its agent refused it, or it failed there: see last_error in placement; '
            'edit the spec, or add 1 to generation, and the agent tries again'
          when not $2.enabled then
            format(
              'no: the deployment is disabled: '
              'update mooring.deployment set enabled = true where id = %%s',
              $1)
          when %1$L = 'none' then
            'no: policy none places nothing by itself: '
            'reassign() it here, or choose another policy'
          when first_value((c.state).id) over w = (c.state).id then
            'next: '
              || case when c.returns_to_last_node then 'back on its last node, ' else '' end
              || 'cheapest by ' || %2$L
              || case when c.returns_to_last_node then ' or near it' else '' end
          else 'could run here'
        end,
        (c.fit).permitted, (c.fit).eligible, c.cost, (c.state).assigned, c.here,
        (c.fit).pin_ok, (c.fit).selector_ok, (c.fit).driver_ok, (c.fit).trust_ok, (c.fit).urls_ok,
        (c.fit).live, (c.fit).enabled, (c.fit).not_draining, (c.fit).has_room, (c.fit).disk_ok
      from compared c
      join mooring.node n on n.id = (c.state).id
      left join mooring.heartbeat h on h.node_id = n.id
     cross join mooring.setting g
    window w as (
      order by (c.fit).eligible desc, c.refused, c.returns_to_last_node desc, c.cost nulls last,
        ((c.state).assigned + 1) * 100 / (c.state).weight, (c.state).id)
     order by (c.fit).eligible desc, c.refused, c.returns_to_last_node desc, c.cost nulls last,
       ((c.state).assigned + 1) * 100 / (c.state).weight, (c.state).id
    $query$,
    policy.kind,
    policy.name,
    case policy.kind
      when 'load' then policy.cost_function || '(s, 1)'
      when 'affinity' then policy.cost_function || '(s, $4)'
      else 'null::float8'
    end)
    using spec.id, spec, nodes, waiting;
end;
$$;
comment on function mooring.explain(bigint) is
  'Why a deployment runs where it runs, or nowhere: one row per node, cheapest eligible node '
  'first. Each row has the predicates, the cost of one more instance under the policy, and a '
  'verdict.';
