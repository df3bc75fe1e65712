-- place_moves: places stopped work on the node that its move promised, before claim() lets policies
-- choose. When the node cannot take it any more (it died, was disabled, filled up, or the spec was
-- edited), the promise is dropped with an event, and the assignment is pending like any other.
-- claim() and reassign() call it under the placement lock.
-- locks: assignment rows (skip locked); the caller holds placement
create or replace function mooring_internal.place_moves(
  ids bigint[] default null,
  max_rows int default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  first_epoch bigint := mooring_internal.next_epoch(0);
  waiting bigint[];
begin
  select array_agg(m.assignment_id) into waiting
    from mooring_internal.moves_under_way() m
   where m.node_id is null
     and m.to_node is not null
     and (place_moves.ids is null or m.assignment_id = any (place_moves.ids));
  if waiting is null then
    return;
  end if;
  select array_agg(l.id) into waiting
    from (
      select a.id, a.node_id, a.wanted, a.move_to
        -- No condition here that an index of the queue or of the owners answers. A plan made while
        -- that index is empty would scan it for ever.
        from mooring.assignment a
       where a.id = any (waiting) and a.move_reason is not null
       order by a.updated_at, a.created_at, a.id
       limit place_moves.max_rows
         for update skip locked) l
   where l.node_id is null and l.wanted = 'run' and l.move_to is not null;
  -- judged by later statements than the one that locked
  return query
    with mover as materialized (
      select a.id, a.deployment_id, a.move_to, a.move_reason, a.refused_by, a.updated_at,
          a.created_at, coalesce(d.lease_ttl, s.lease_ttl) as lease_ttl
        from mooring.assignment a
        join mooring.deployment d on d.id = a.deployment_id and d.enabled
       cross join mooring.setting s
       where a.id = any (waiting)
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from mover m)) l
    ),
    fit as materialized (
      -- without has_room, because it counts the places that are kept for these very assignments
      select e.deployment_id, e.node_id,
          coalesce(mooring_internal.reason_not_permitted(e), case
            when not e.live then 'the node is not live'
            when not e.enabled then 'the node is disabled'
            when not e.not_draining then 'the node is draining or its agent is stopping'
            when not e.disk_ok then 'the node has too little free disk'
          end) as obstacle
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.node_id in (select m.move_to from mover m)
    ),
    judged as materialized (
      select m.*, n.name as to_name, n.max_assignments,
          case
            when n.id is null then 'the node is gone'
            when m.move_to = any (m.refused_by) then 'its agent refused it, or it failed there'
            else f.obstacle
          end as obstacle
        from mover m
        join alike l on l.deployment_id = m.deployment_id
        left join mooring.node n on n.id = m.move_to
        left join fit f on f.deployment_id = l.representative and f.node_id = m.move_to
    ),
    decided as materialized (
      select j.id, j.move_to, j.to_name, j.move_reason, j.lease_ttl,
          coalesce(j.obstacle, case
            when coalesce(o.assigned, 0)
              + row_number() over (
                partition by j.move_to, j.obstacle is null
                order by j.updated_at, j.created_at, j.id)
              > j.max_assignments
              then 'the node has max_assignments already'
          end) as obstacle
        from judged j
        left join mooring_internal.assigned_per_node() o on o.node_id = j.move_to
    ),
    placed as (
      update mooring.assignment a
         set node_id = d.move_to,
             epoch = greatest(a.epoch + 1, first_epoch),
             lease_ttl = d.lease_ttl,
             owner_reason = 'moved: ' || d.move_reason,
             assigned_at = clock_timestamp(),
             waiting_since = null,
             move_to = null
        from decided d
       where a.id = d.id and d.obstacle is null
      returning a.*
    ),
    dropped as (
      update mooring.assignment a
         set move_to = null
        from decided d
       where a.id = d.id and d.obstacle is not null
      returning a.*
    ),
    logged as (
      insert into mooring.event
        (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
      select e.kind, e.id, e.deployment_id, e.node_id, e.node, e.epoch, e.reason
        from (
          select 'claimed' as kind, p.id, p.deployment_id, p.node_id, d.to_name as node, p.epoch,
              'moved: ' || d.move_reason as reason
            from placed p
            join decided d on d.id = p.id
          union all
          select 'move_dropped', r.id, r.deployment_id, null, null, r.epoch,
              format(
                'it cannot go to %s: %s', coalesce(d.to_name, 'node ' || d.move_to), d.obstacle)
            from dropped r
            join decided d on d.id = r.id) e
       order by e.id
    )
    select p.*
      from placed p;
end;
$$;
comment on function mooring_internal.place_moves(bigint[], int) is
  'Places pending work on the node its move named, where the node can still take it. '
  'Returns what it placed.';
