-- hold_node: the work of a node waits for it, for so long at most: for a host that is rebooted on
-- purpose. The node keeps what it owns while its agent is away, and nothing of it runs elsewhere.
-- It gets no new work meanwhile.
-- The hold ends when the agent starts again, after `duration`, or with a duration of 0. Then the
-- work goes elsewhere like that of any silent node. Called again it counts from now.
-- locks: node
create or replace function mooring.hold_node(name text, duration interval) returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(hold_node.name);
  until timestamptz;
begin
  if hold_node.duration is null or hold_node.duration not between interval '0' and interval '7 days'
  then
    raise exception using
      errcode = 'MR007',
      message = format('a node is not held for %s', coalesce(hold_node.duration::text, 'null')),
      hint = 'Give the time a reboot may take: 10 minutes, at most 7 days; 0 ends the hold.';
  end if;
  perform mooring_internal.limit_idle();
  if hold_node.duration > interval '0' then
    until := clock_timestamp() + hold_node.duration;
  end if;
  update mooring.node n
     set held_until = until
   where n.id = node.id
     and n.held_until is distinct from until;
  if until is not null then
    perform mooring_internal.add_event(
      'node_held',
      format('its work waits for it, for %s at most', hold_node.duration),
      node.id,
      jsonb_build_object('until', until));
  elsif found and node.held_until > clock_timestamp() then
    perform mooring_internal.add_event('node_hold_ended', 'by an operator', node.id);
  end if;
  return mooring_internal.node_named(hold_node.name);
end;
$$;
comment on function mooring.hold_node(text, interval) is
  'Lets the work of a node wait for it while its host reboots, for so long at most. Returns the '
  'node.';
