-- Where the work of a draining node can go. One row stands for all assignments that no node tells
-- apart; its node_ids are empty where no node can take them. advance_drains() acts on it, and view
-- drain_progress shows it.
-- Left out: what is being handed over, and what rests because its successor failed.
-- Policy none leaves the choice to an operator. To name one node as the target is that choice;
-- without it the row is unnamed.
create or replace function mooring_internal.drain_targets(node_id int) returns table (
  policy text,
  node_ids int[],
  ids bigint[],
  representative bigint,
  refused_by int[],
  unnamed boolean
)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- sets of thousands whose sizes the planner cannot know, see release()
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    with source as materialized (
      select n.id, n.drain_to
        from mooring.node n
       where n.id = drain_targets.node_id
    ),
    handed_over as materialized (
      select c.replica
        from mooring_internal.handover_rows() c
    ),
    owned as materialized (
      select a.id, a.signature, a.refused_by, a.deployment_id
        from mooring.assignment a
       cross join mooring.setting s
       where a.node_id = drain_targets.node_id
         and a.wanted = 'run'
         and a.ordinal is not null
         and a.handover is null
         and (
           a.handover_failed_at is null
           or a.handover_failed_at < clock_timestamp() - s.handover_timeout)
         and not exists (select from handed_over h where h.replica = a.id)
    ),
    kind as materialized (
      select o.signature, o.refused_by, min(o.deployment_id) as deployment_id
        from owned o
       group by o.signature, o.refused_by
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct k.deployment_id) from kind k)) l
    ),
    open as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       cross join source s
       where e.eligible
         and e.node_id <> s.id
         and (s.drain_to is null or e.node_id = s.drain_to)
       group by e.deployment_id
    ),
    class as materialized (
      select p.name as policy, p.kind = 'none' and s.drain_to is null as unnamed, p.kind,
          l.representative, o.refused_by, array_agg(o.id order by o.id) as ids
        from owned o
        join kind k on k.signature = o.signature and k.refused_by = o.refused_by
        join alike l on l.deployment_id = k.deployment_id
        join mooring.deployment d on d.id = k.deployment_id
       cross join mooring.setting g
       cross join source s
        join mooring.policy p on p.name = coalesce(d.policy, g.default_policy)
       group by p.name, p.kind, s.drain_to, l.representative, o.refused_by
    )
    select case when c.kind = 'none' then 'deployment_count' else c.policy end,
        t.node_ids, c.ids, c.representative, c.refused_by, c.unnamed
      from class c
      left join open f on f.deployment_id = c.representative
     cross join lateral (
       select case
           when c.unnamed then '{}'
           else array(
             select u.id
               from unnest(f.node_ids) u (id)
              where u.id <> all (c.refused_by)
              order by u.id)
         end as node_ids) t
     order by cardinality(t.node_ids), c.ids[1];
end;
$$;
comment on function mooring_internal.drain_targets(int) is
  'Where each class of work on a node could go if the node were drained; node_ids empty: nowhere.';
