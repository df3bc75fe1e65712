-- why_unplaced: one sentence per waiting signature: the first predicate, in the order they are asked, that leaves no node, with the way out.
-- without_node: as if that node were lost, for what it would leave behind too.
create or replace function mooring.why_unplaced(without_node int default null) returns table (signature uuid, reason text)
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  with waiting as materialized (
    select w.signature, w.deployment_id, w.refused_by from mooring.waiting_signatures(why_unplaced.without_node) w
  ),
  alike as materialized (
    select l.deployment_id, l.representative from mooring.alike((select array_agg(distinct w.deployment_id) from waiting w)) l
  ),
  fit as materialized (
    select e.deployment_id, e.node_id, e.pin_ok, e.selector_ok, e.driver_ok, e.trust_ok, e.permitted, e.enabled, e.not_draining, e.has_room,
        e.live and e.node_id is distinct from why_unplaced.without_node as live, e.eligible and e.node_id is distinct from why_unplaced.without_node as eligible
      from mooring.eligibility((select array_agg(distinct l.representative) from alike l)) e
  ),
  tally as (
    select w.signature, w.deployment_id, count(f.node_id) as nodes,
        count(*) filter (where f.pin_ok) as pin,
        count(*) filter (where f.pin_ok and f.selector_ok) as selector,
        count(*) filter (where f.pin_ok and f.selector_ok and f.driver_ok) as driver,
        count(*) filter (where f.pin_ok and f.selector_ok and f.driver_ok and f.trust_ok) as trust,
        count(*) filter (where f.permitted) as permitted,
        count(*) filter (where f.permitted and f.node_id <> all (w.refused_by)) as willing,
        count(*) filter (where f.permitted and f.node_id <> all (w.refused_by) and f.live) as live,
        count(*) filter (where f.permitted and f.node_id <> all (w.refused_by) and f.live and f.enabled) as enabled,
        count(*) filter (where f.permitted and f.node_id <> all (w.refused_by) and f.live and f.enabled and f.not_draining) as not_draining,
        count(*) filter (where f.permitted and f.node_id <> all (w.refused_by) and f.live and f.enabled and f.not_draining and f.has_room) as room,
        count(*) filter (where f.eligible and f.node_id <> all (w.refused_by)) as eligible
      from waiting w join alike l on l.deployment_id = w.deployment_id left join fit f on f.deployment_id = l.representative
     group by w.signature, w.deployment_id
  )
  select t.signature, case
      when coalesce(d.policy, s.default_policy) = 'none' then 'policy none: nothing is placed automatically; choose another policy'
      when t.nodes = 0 then 'there is no node: start an agent'
      when t.pin = 0 then format('there is no node %s, to which it is pinned', d.pinned_node)
      when t.selector = 0 then format('no node has the labels %s: %s looked at; label one or change the selector', d.selector, case t.pin when 1 then '1 node' else t.pin || ' nodes' end)
      when t.driver = 0 then case when d.command is not null then format('none of the nodes that fit so far (%s) runs custom commands: start an agent there with --allow-exec', t.selector) else format('none of the nodes that fit so far (%s) runs npm packages', t.selector) end
      when t.trust = 0 then format('no node trusts %s@%s: %s; start an agent with a wider --trust', d.package_name, d.package_version,
        (select coalesce(string_agg(case when p.nodes = 1 then '1 node trusts ' else p.nodes || ' nodes trust ' end || coalesce(p.trusts, 'nothing'), ', '), '') from
          (select n.trusts, count(*) as nodes from mooring.node n group by n.trusts order by 2 desc, 1 limit 3) p))
      when t.permitted = 0 then 'it needs a node with both agent_base_url and gateway_base_url, and there is none'
      when t.willing = 0 then 'every node that may run it refused it (see last_error in placement); change the spec or the agents'
      when t.live = 0 then format('none of the %s that may run it is live', case t.willing when 1 then 'one node' else t.willing || ' nodes' end)
      when t.enabled = 0 then 'every live node that may run it is disabled'
      when t.not_draining = 0 then 'every live node that may run it is draining or its agent is stopping'
      when t.room = 0 then 'every node that may run it has max_assignments already: add a node or raise the limit'
      when t.eligible = 0 then format('every node that may run it has less than %s %% of its disk free', s.disk_free_min_pct)
      when mooring.holding() is not null then 'hold after an outage: ' || mooring.holding()
      else coalesce((select f.reason from (select e.* from mooring.event e order by e.id desc limit 1000) f
        where f.kind = 'claim_failed' and f.detail ->> 'policy' = coalesce(d.policy, s.default_policy) and f.at > clock_timestamp() - interval '1 min' order by f.id desc limit 1),
        'it is placed by the next round')
    end
    from tally t
    join mooring.deployment d on d.id = t.deployment_id
   cross join mooring.setting s;
end;
comment on function mooring.why_unplaced(int) is 'For each signature that waits: why, and the way out.';
