-- Why work of a draining node has nowhere to go, in words. It is apart from drain_targets(),
-- because finding the words for each node takes far longer than the choice.
create or replace function mooring_internal.drain_obstacles(node_id int)
  returns table (ids bigint[], why text)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with blocked as materialized (
      select c.*
        from mooring_internal.drain_targets(drain_obstacles.node_id) c
       where c.node_ids = '{}'
    ),
    source as materialized (
      select n.id, n.drain_to, t.name as to_name
        from mooring.node n
        left join mooring.node t on t.id = n.drain_to
       where n.id = drain_obstacles.node_id
    ),
    reason as materialized (
      select e.deployment_id, e.node_id, mooring_internal.reason_not_eligible(e) as reason
        from mooring_internal.eligibility(
          (select array_agg(distinct b.representative) from blocked b where not b.unnamed)) e
       cross join source s
       where e.node_id <> s.id
         and (s.drain_to is null or e.node_id = s.drain_to)
    )
    select b.ids,
        case
          when b.unnamed then 'its policy is none: drain to a node by name, or reassign it'
          when s.drain_to is not null and s.to_name is null then
            'the node it was to be drained to is gone'
          when w.reasons is null then 'there is no other node: start an agent elsewhere'
          else
            coalesce(s.to_name || ' cannot take it: ', 'no other node can take it: ') || w.reasons
        end
      from blocked b
     cross join source s
     cross join lateral (
       select string_agg(
           t.reason || case when s.to_name is null then format(' (%s)', t.nodes) else '' end,
           ', ' order by t.nodes desc, t.reason) as reasons
         from (
           select coalesce(r.reason, 'its agent refused it, or it failed there') as reason,
               count(*) as nodes
             from reason r
            where r.deployment_id = b.representative
            group by 1) t) w
    union all
    select array_agg(a.id order by a.id),
        format('%s (tried again after %s)', a.handover_error, g.handover_timeout)
      from mooring.assignment a
     cross join mooring.setting g
     where a.node_id = drain_obstacles.node_id
       and a.wanted = 'run'
       and a.handover_failed_at >= clock_timestamp() - g.handover_timeout
     group by a.handover_error, g.handover_timeout;
end;
$$;
comment on function mooring_internal.drain_obstacles(int) is
  'The work of a node that has nowhere to go if the node is drained, and why.';
