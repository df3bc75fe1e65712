-- Records handovers that end because one of the two rows is released: their events, and the reason
-- in the history of the row. A node that refused a successor is remembered in the replica's
-- refused_by, so the next successor goes to another node.
--   second_rows  released rows beside a replica
--   relieved     released replicas that leave such a row behind
-- locks: assignment rows (skip locked); the caller has locked the rows it names
create or replace function mooring_internal.end_handovers(
  second_rows bigint[],
  relieved bigint[],
  kind text,
  reason text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- the history of what ends here takes its reason from the row
  update mooring.assignment a
     set stop_reason = end_handovers.reason
   where a.id = any (end_handovers.second_rows || end_handovers.relieved) and a.wanted = 'run';
  insert into mooring.event
    (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
  select p.kind, a.id, a.deployment_id, a.node_id, n.name, a.epoch,
      case p.kind
        when 'handed_over' then end_handovers.reason
        else 'its successor is given up: ' || end_handovers.reason
      end,
      mooring_internal.handover_detail(a.id, a.node_id, p.id, p.node_id)
    from (
      select c.id, c.node_id, c.replica,
          case
            when c.replica = any (end_handovers.relieved) then 'handed_over'
            else 'handover_failed'
          end as kind
        from mooring_internal.handover_rows() c
       where c.handover = 'arriving'
         and c.wanted = 'run'
         and (
           c.replica = any (end_handovers.relieved)
           or c.id = any (end_handovers.second_rows))) p
    join mooring.assignment a on a.id = p.replica
    left join mooring.node n on n.id = a.node_id
   order by a.id;
  if end_handovers.kind = 'refused' then
    update mooring.assignment a
       set refused_by = array_append(a.refused_by, c.node_id),
           signature = mooring_internal.queue_signature(
             d.signature, array_append(a.refused_by, c.node_id))
      from mooring_internal.handover_rows() c
      join mooring.deployment d on d.id = c.deployment_id
     where c.id = any (end_handovers.second_rows)
       and a.id = c.replica
       and c.node_id <> all (a.refused_by)
       and a.id in (
         select l.id
           from mooring.assignment l
          where l.id in (
            select o.replica
              from mooring_internal.handover_rows() o
             where o.id = any (end_handovers.second_rows))
            for no key update skip locked);
  end if;
end;
$$;
comment on function mooring_internal.end_handovers(bigint[], bigint[], text, text) is
  'Records how handovers end when the row beside a replica, or the replica itself, is released.';
