-- The words of pending_reasons(): each names what is in the way and the next step.
-- rule is the one that leaves no node; node_ids are the nodes that got as far as that rule.
-- rule 0: there is no node at all. rule 12: no rule is in the way.
create or replace function mooring_internal.pending_reason_text(
  spec mooring.deployment,
  rule int,
  node_ids int[]
) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- planning for each array of nodes would take longer than the query
  set plan_cache_mode = force_generic_plan
as $$
declare
  setting mooring.setting;
  names text[];
  one boolean;
  candidates int[];
  few int[];
  these text;
  more text;
begin
  select s.* into setting
    from mooring.setting s;
  if coalesce(spec.policy, setting.default_policy) = 'none' then
    return 'policy none: nothing is placed automatically; '
      'reassign() it to a node, or choose another policy';
  elsif rule = 0 then
    return 'there is no node: start an agent';
  elsif rule = 12 then
    return case
      when mooring_internal.hold_reason() is not null then format(
        'hold after an outage: %s; it ends by itself, see fleet.hold_until',
        mooring_internal.hold_reason())
      else coalesce(
        (
          select f.reason || '; mend the policy, or choose another'
            from (select e.* from mooring.event e order by e.id desc limit 1000) f
           where f.kind = 'claim_failed'
             and f.detail ->> 'policy' = coalesce(spec.policy, setting.default_policy)
             and f.at > clock_timestamp() - interval '1 min'
           order by f.id desc
           limit 1),
        'the last round of placement failed: '
          || mooring_internal.round_error('place')
          || '; it is tried again, see doctor()',
        (
          select 'it is placed by the next round, and none has run in time: start a worker'
            from mooring_internal.round r
           where r.name = 'place'
             and r.done_at < clock_timestamp() - interval '1 min'
             and isfinite(r.done_at)),
        'it is placed by the next round')
    end;
  end if;
  -- a hundred at most: there may be thousands of nodes, for each of many signatures
  candidates := array(select u.id from unnest(node_ids) u (id) order by u.id limit 100);
  few := candidates[1:3];
  names := array(select n.name from mooring.node n where n.id = any (few) order by n.name);
  more := case
    when cardinality(node_ids) > 3 then format(' and %s more', cardinality(node_ids) - 3)
    else ''
  end;
  these := array_to_string(names, ', ') || more;
  one := cardinality(node_ids) = 1;
  return case rule
    when 1 then format(
      'there is no node %s, to which it is pinned: start its agent, or change pinned_node '
      '(there are %s)',
      spec.pinned_node, these)
    when 2 then format(
      'no node has the labels %s: %s looked at; label one (%s) or change the selector',
      spec.selector,
      case cardinality(node_ids)
        when 1 then '1 node'
        else cardinality(node_ids) || ' nodes'
      end,
      (
        select format('%s lacks %s', k.name, k.lacks)
          from (
            select n.name, mooring_internal.missing_labels(n.labels, spec.selector) as lacks
              from unnest(candidates) u (id)
              join mooring.node n on n.id = u.id) k
         order by (select count(*) from jsonb_object_keys(k.lacks)), k.name
         limit 1))
    when 3 then format(
      case
        when one then 'the one node that fits so far (%2$s) does not run %3$s'
        else 'none of the %1$s nodes that fit so far (%2$s) runs %3$s'
      end,
      cardinality(node_ids),
      these,
      case
        when spec.command is not null
          then 'custom commands: start an agent there with --allow-exec'
        when mooring_internal.code_variables(spec.env) <> '{}' then format(
          'what sets %s in its env, which decides what code runs: '
          'take that out, or start an agent there with --allow-exec',
          array_to_string(mooring_internal.code_variables(spec.env), ', '))
        else 'npm packages: start an agent there that has the driver npm'
      end)
    when 4 then format(
      'no node trusts %s@%s: %s; start the agent of one (%s) with a wider --trust',
      spec.package_name,
      spec.package_version,
      (
        select string_agg(
            case when p.nodes = 1 then '1 node trusts ' else p.nodes || ' nodes trust ' end
              || coalesce(p.trusts, 'nothing'),
            ', ')
          from (
            select n.trusts, count(*) as nodes
              from unnest(node_ids) u (id)
              join mooring.node n on n.id = u.id
             group by n.trusts
             order by 2 desc, 1
             limit 3) p),
      these)
    when 5 then format(
      'it needs a node with both agent_base_url and gateway_base_url, and '
        || case
          when one then 'the one node that fits so far does not have them'
          else 'none of the %1$s nodes that fit so far has them'
        end || ': give them to %2$s with upsert_node()',
      cardinality(node_ids), these)
    when 6 then format(
      'every node that may run it refused it, or it failed there (%s; see last_error): '
      'edit its spec, or add 1 to its generation, and they try again',
      these)
    when 7 then format(
      case
        when one then 'the one node that may run it is not live (%2$s): start its agent'
        else 'none of the %1$s nodes that may run it is live (%2$s): start their agents'
      end || ', or let other nodes run it',
      cardinality(node_ids), these)
    when 8 then format(
      'every live node that may run it is disabled (%s): set_node_enabled(%L, true)',
      these, names[1])
    when 9 then format(
      'every live node that may run it is draining or its agent is stopping (%s): '
      'undrain_node(%L), or add a node',
      these, names[1])
    when 10 then format(
      'every node that may run it has max_assignments already (%s): '
      'add a node, or raise the limit with upsert_node(%L, max_assignments => ...)',
      (
        select string_agg(n.name || ': ' || n.max_assignments, ', ' order by n.name) || more
          from mooring.node n
         where n.id = any (few)),
      names[1])
    when 11 then format(
      'every node that may run it has less than %s %% of its disk free (%s): '
      'free some there, or lower setting.disk_free_min_pct',
      setting.disk_free_min_pct,
      (
        select string_agg(
            format('%s: %s %%', h.node, round(h.disk_free_pct::numeric, 1)),
            ', ' order by h.node) || more
          from mooring.heartbeat h
         where h.node_id = any (few)))
  end;
end;
$$;
comment on function mooring_internal.pending_reason_text(mooring.deployment, int, int[]) is
  'Why pending work of a deployment is not placed, and the way out, in words.';
