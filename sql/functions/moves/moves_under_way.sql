-- Assignments that are being moved from node to node. There are few at any time, and their own
-- index finds them. The planner is not left the choice: without statistics it takes them for nearly
-- all rows of the table and scans it from end to end.
create or replace function mooring_internal.moves_under_way() returns table (
  assignment_id bigint,
  deployment_id bigint,
  epoch bigint,
  node_id int,
  from_node int,
  to_node int,
  stopping boolean,
  handover text
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id, a.epoch, a.node_id,
        case
          when a.node_id is not null and a.wanted = 'stop' then a.node_id
          else a.last_node_id
        end,
        a.move_to,
        a.node_id is not null and a.wanted = 'stop',
        a.handover
      from mooring.assignment a
     where a.move_reason is not null;
end;
$$;
comment on function mooring_internal.moves_under_way() is
  'Assignments that are being moved: still stopping on from_node, pending (node_id null), or '
  'started on node_id and not yet observed running. Of a start-first move: the successor, then its '
  'predecessor.';
