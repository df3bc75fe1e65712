-- explain: every node, every predicate, the cost, and a verdict, from the same relation and the same policy the claim uses.
create or replace function mooring.explain(deployment bigint)
  returns table (node text, verdict text, permitted boolean, eligible boolean, cost float8, assigned int, here int, pin_ok boolean, selector_ok boolean, driver_ok boolean, trust_ok boolean, urls_ok boolean,
    live boolean, enabled boolean, not_draining boolean, has_room boolean, disk_ok boolean)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  spec mooring.deployment;
  policy mooring.policy;
  known text;
begin
  select d.* into spec from mooring.deployment d where d.id = explain.deployment;
  if spec.id is null then
    select string_agg(k.id::text, ', ') into known from (select d.id from mooring.deployment d order by abs(d.id - explain.deployment) limit 3) k;
    raise exception using errcode = 'MR003', message = format('there is no deployment %s', coalesce(explain.deployment::text, 'null')), hint = coalesce('The nearest ids are ' || known || '.', 'There is no deployment at all: insert one.');
  end if;
  select p.* into policy from mooring.policy p where p.name = coalesce(spec.policy, (select s.default_policy from mooring.setting s));
  return query execute format($query$
    select s.name,
        case
          when o.here > 0 and e.permitted then 'runs here' || coalesce('; nothing new: ' || mooring.why_not_eligible(e), '')
          when not e.eligible then 'no: ' || mooring.why_not_eligible(e)
          when o.refused then 'no: its agent refused it'
          when not $2 then 'no: the deployment is disabled'
          when %1$L = 'none' then 'no: policy none places nothing by itself'
          when first_value(s.id) over w = s.id then 'next: cheapest by ' || %2$L
          else 'could run here'
        end,
        e.permitted, e.eligible, c.cost, s.assigned, o.here, e.pin_ok, e.selector_ok, e.driver_ok, e.trust_ok, e.urls_ok, e.live, e.enabled, e.not_draining, e.has_room, e.disk_ok
      from mooring.eligibility(array[$1]) e
      join mooring.node_states() s on s.id = e.node_id
     cross join lateral (select (%3$s) * 100 / s.weight as cost) c
     cross join lateral (select (count(*) filter (where a.node_id = s.id))::int as here, coalesce(bool_or(s.id = any (a.refused_by)), false) as refused from mooring.assignment a where a.deployment_id = $1) o
    window w as (order by e.eligible desc, o.refused, c.cost nulls last, (s.assigned + 1) * 100 / s.weight, s.id)
     order by e.eligible desc, o.refused, c.cost nulls last, (s.assigned + 1) * 100 / s.weight, s.id
    $query$, policy.kind, policy.name, case when policy.cost_function is null then 'null::float8' else policy.cost_function || '(s, 1)' end)
    using spec.id, spec.enabled;
end;
$$;
comment on function mooring.explain(bigint) is 'Why a deployment runs where it runs, or nowhere: one row per node with each predicate, the cost of one more under its policy, and a verdict. Cheapest eligible node first.';
