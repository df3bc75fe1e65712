-- Pending work that has an eligible node: signatures grouped by policy and by the set of their
-- eligible nodes, the smallest set first.
-- Work that no node can run is absent. So it costs nothing, however much of it leads the queue.
create or replace function mooring_internal.placeable_classes(without_node int default null)
  returns setof mooring_internal.placement_class
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    with waiting as materialized (
      select w.signature, w.deployment_id, w.refused_by,
          coalesce(d.policy, s.default_policy) as policy
        from mooring_internal.pending_signatures(placeable_classes.without_node) w
        join mooring.deployment d on d.id = w.deployment_id
       cross join mooring.setting s
        join mooring.policy p on p.name = coalesce(d.policy, s.default_policy) and p.kind <> 'none'
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct w.deployment_id) from waiting w)) l
    ),
    fit as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
         and e.node_id is distinct from placeable_classes.without_node
       group by e.deployment_id
    ),
    open as (
      select w.policy, w.signature,
          case when w.refused_by = '{}' then f.node_ids
               else array(
                 select n.id
                   from unnest(f.node_ids) n (id)
                  where n.id <> all (w.refused_by)
                  order by n.id) end as node_ids
        from waiting w
        join alike l on l.deployment_id = w.deployment_id
        join fit f on f.deployment_id = l.representative
    )
    select o.policy, array_agg(o.signature), o.node_ids
      from open o
     where o.node_ids <> '{}'
     group by o.policy, o.node_ids
     order by cardinality(o.node_ids), o.node_ids, o.policy;
end;
$$;
comment on function mooring_internal.placeable_classes(int) is
  'Pending work that has an eligible node with room, grouped by policy and node set.';
