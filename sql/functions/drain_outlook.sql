-- What of a draining node can go where. drain_progress shows it, and advance_drains() acts on the very same: one row for all that may go to the
-- same nodes under the same policy, with an empty node_ids and a reason where that is nowhere.
create or replace function mooring.drain_outlook(node_id int) returns table (policy text, node_ids int[], ids bigint[], why text)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with source as materialized (
      select n.id, n.drain_to, t.name as to_name from mooring.node n left join mooring.node t on t.id = n.drain_to where n.id = drain_outlook.node_id
    ),
    owned as materialized (
      select a.signature, a.refused_by, min(a.deployment_id) as deployment_id, array_agg(a.id order by a.id) as ids
        from mooring.assignment a
       where a.node_id = drain_outlook.node_id and a.wanted = 'run' and a.ordinal is not null
       group by a.signature, a.refused_by
    ),
    alike as materialized (
      select l.deployment_id, l.representative from mooring.alike((select array_agg(distinct o.deployment_id) from owned o)) l
    ),
    fit as materialized (
      select e.*
        from mooring.eligibility((select array_agg(distinct l.representative) from alike l)) e cross join source s
       where e.node_id <> s.id and (s.drain_to is null or e.node_id = s.drain_to)
    ),
    open as materialized (
      select f.deployment_id, array_agg(f.node_id order by f.node_id) as node_ids from fit f where f.eligible group by f.deployment_id
    ),
    outlook as materialized (
      select coalesce(d.policy, g.default_policy) as policy, o.ids, o.refused_by, l.representative, s.drain_to, s.to_name, p.kind,
          case when p.kind = 'none' and s.drain_to is null then '{}' else array(select u.id from unnest(f.node_ids) u (id) where u.id <> all (o.refused_by) order by u.id) end as node_ids
        from owned o
        join alike l on l.deployment_id = o.deployment_id
        join mooring.deployment d on d.id = o.deployment_id
       cross join mooring.setting g
       cross join source s
        join mooring.policy p on p.name = coalesce(d.policy, g.default_policy)
        left join open f on f.deployment_id = l.representative
    )
    -- policy none leaves the choice to a person, who has made it by naming the one node
    select case when k.kind = 'none' then 'deployment_count' else k.policy end, k.node_ids, array(select u.id from unnest(k.ids) u (id) order by u.id), k.why
      from (select k.policy, k.kind, k.node_ids, r.why, array_agg(i.id) as ids
              from outlook k
             cross join lateral unnest(k.ids) i (id)
             cross join lateral (
               select case
                   when k.node_ids <> '{}' then null
                   when k.kind = 'none' and k.drain_to is null then 'its policy is none: drain to a node by name, or reassign it'
                   when k.drain_to is not null and k.to_name is null then 'the node it was to be drained to is gone'
                   when k.drain_to is null and not exists (select from fit f) then 'there is no other node: start an agent elsewhere'
                   else coalesce(k.to_name || ' cannot take it: ', 'no other node can take it: ')
                     || (select string_agg(w.reason || case when k.to_name is null then format(' (%s)', w.nodes) else '' end, ', ' order by w.nodes desc, w.reason)
                           from (select coalesce(mooring.why_not_eligible(f), 'its agent refused it') as reason, count(*) as nodes from fit f where f.deployment_id = k.representative group by 1) w)
                 end as why) r
             group by k.policy, k.kind, k.node_ids, r.why) k
     order by cardinality(k.node_ids), k.node_ids, k.policy;
end;
$$;
comment on function mooring.drain_outlook(int) is 'Of what a node runs: where it could go if the node were drained, or why nowhere.';
