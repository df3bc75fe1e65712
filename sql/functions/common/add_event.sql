-- A verb that changes many rows inserts its events itself, in the statement that changes the rows.
create or replace function mooring_internal.add_event(
  kind text,
  reason text,
  node_id int default null,
  detail jsonb default null
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring.event (kind, reason, node_id, node, detail)
  select add_event.kind, add_event.reason, add_event.node_id,
      (select n.name from mooring.node n where n.id = add_event.node_id),
      add_event.detail;
end;
comment on function mooring_internal.add_event(text, text, int, jsonb) is 'Appends one event.';
