-- Names both sides of a handover, for the detail of events.
create or replace function mooring_internal.handover_detail(
  from_id bigint,
  from_node int,
  to_id bigint,
  to_node int
) returns jsonb
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select jsonb_build_object(
    'from', jsonb_build_object(
      'assignment', handover_detail.from_id,
      'node', (select n.name from mooring.node n where n.id = handover_detail.from_node)),
    'to', jsonb_build_object(
      'assignment', handover_detail.to_id,
      'node', (select n.name from mooring.node n where n.id = handover_detail.to_node))));
comment on function mooring_internal.handover_detail(bigint, int, bigint, int) is
  'Detail of an event about a handover: from and to, each with assignment and node.';
