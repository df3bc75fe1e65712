-- Makes a successor, on the node beside it, for each of these assignments that is start-first and
-- runs. Returns the ids of the assignments that got one. An assignment that does not run at the
-- moment has nothing to keep up and is moved stop-first, so that a drain ends although every
-- process fails.
-- locks: none beyond the rows, which the caller has locked; the caller holds placement
create or replace function mooring_internal.begin_handovers(
  ids bigint[],
  nodes int[],
  reason text
) returns bigint[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  begun bigint[];
begin
  with wish as materialized (
    select a.*, o.node_id as to_node, coalesce(d.lease_ttl, s.lease_ttl) as new_lease_ttl
      from unnest(begin_handovers.ids, begin_handovers.nodes) o (id, node_id)
      join mooring.assignment a
        on a.id = o.id and a.wanted = 'run' and a.handover is null and a.node_id <> o.node_id
      join mooring.deployment d
        on d.id = a.deployment_id
       and d.handover = 'start-first'
       and d.enabled
       and not a.surplus
      join mooring.run r
        on r.assignment_id = a.id and r.epoch = a.epoch and r.state = 'running'
     cross join mooring.setting s
  ),
  born as (
    insert into mooring.assignment (
      deployment_id, ordinal, handover, signature, refused_by, node_id, epoch, lease_ttl,
      owner_reason, move_reason, last_node_id, assigned_at, created_at, updated_at)
    select w.deployment_id, w.ordinal, 'arriving', w.signature, w.refused_by, w.to_node,
        mooring_internal.next_epoch(0), w.new_lease_ttl,
        'moved: ' || begin_handovers.reason, begin_handovers.reason, w.node_id,
        clock_timestamp(), w.created_at, w.updated_at
      from wish w
     order by w.id
    returning *
  ),
  -- Writes the row of the replica on purpose. A transaction that judges the replica by an older
  -- snapshot (a delete under repeatable read) then fails to serialise and cannot miss the
  -- successor.
  followed as (
    update mooring.assignment a
       set handover_failed_at = null,
           handover_error = null
      from wish w
     where a.id = w.id
  ),
  logged as (
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select e.kind, e.id, e.deployment_id, e.node_id, n.name, e.epoch, e.reason, e.detail
      from (
        select 'move_wanted' as kind, w.id, w.deployment_id, w.node_id, w.epoch,
            begin_handovers.reason as reason,
            mooring_internal.handover_detail(w.id, w.node_id, b.id, b.node_id)
              || jsonb_build_object('handover', 'start-first') as detail
          from wish w
          join born b on b.deployment_id = w.deployment_id and b.ordinal = w.ordinal
        union all
        select 'claimed', b.id, b.deployment_id, b.node_id, b.epoch, b.owner_reason, null
          from born b) e
      left join mooring.node n on n.id = e.node_id
     order by e.kind desc, e.id
  )
  select array_agg(w.id) into begun
    from wish w;
  return coalesce(begun, '{}');
end;
$$;
comment on function mooring_internal.begin_handovers(bigint[], int[], text) is
  'Starts successors of running start-first assignments, each on the node beside it. '
  'Returns the assignments that got one.';
