-- The work a node would leave behind if it were gone, as release() would leave it.
--   a daemon, and a row that stops for good, end with the node
--   a move goes on to its target, where that is possible; a restart on this node cannot
--   a row of a handover needs no place: the row beside the replica ends, or the replica has a
--   successor
create or replace function mooring_internal.work_of_lost_node(node_id int) returns table (
  id bigint,
  deployment_id bigint,
  signature uuid,
  refused_by int[],
  replicated boolean,
  move_to int,
  move_reason text,
  updated_at timestamptz,
  created_at timestamptz
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  -- found by array and joined by hash, as in release(): without statistics a loop would read a
  -- thousand rows for each deployment
  set enable_nestloop = off
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id,
        mooring_internal.queue_signature(d.signature, a.refused_by), a.refused_by,
        d.replicas > 1,
        case when a.wanted = 'stop' then nullif(a.move_to, a.node_id) end,
        case when a.wanted = 'stop' then a.move_reason end,
        a.updated_at, a.created_at
      from mooring.assignment a
      join mooring.deployment d
        on d.id = a.deployment_id
       and d.enabled
       and d.type = 'deployment'
       and not a.surplus
     where a.node_id = work_of_lost_node.node_id
       and a.handover is null
       and d.id = any (array(
         select b.deployment_id
           from mooring.assignment b
          where b.node_id = work_of_lost_node.node_id))
       and a.id <> all (array(
         select c.replica
           from mooring_internal.handover_rows() c
          where c.handover = 'arriving' and c.wanted = 'run' and c.replica is not null));
end;
$$;
comment on function mooring_internal.work_of_lost_node(int) is
  'The work of a node that would have to be placed elsewhere if the node were gone.';
