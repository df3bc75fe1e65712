-- drain_node: closes a node at once and moves away what it runs, a bounded number at a time.
-- advance_drains() does the moving, and view drain_progress shows it. A second call changes target,
-- max_moves and deadline of the same drain.
--   target     everything goes there; what cannot is blocked. null: wherever each may run
--   max_moves  how many are moved at the same time; null: setting.drain_max_moves
--   deadline   after this time everything left is stopped at once, whether or not another node can
--              take it; null: never
-- Daemons stay, because they end with the node's agent.
-- locks: node
create or replace function mooring.drain_node(
  name text,
  target text default null,
  max_moves int default null,
  deadline interval default null
) returns table (node text, total int, "left" int, moving int, blocked int, why text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  source mooring.node := mooring_internal.node_named(drain_node.name);
  destination mooring.node;
  beat mooring.heartbeat;
  begun boolean;
begin
  if drain_node.max_moves < 1 then
    raise exception using
      errcode = 'MR007',
      message = format('max_moves is %s', drain_node.max_moves),
      hint = 'Leave it out for setting.drain_max_moves, or give 1 or more.';
  elsif drain_node.deadline < interval '0' or drain_node.deadline > interval '100 years' then
    raise exception using
      errcode = 'MR007',
      message = format('the deadline is %s', drain_node.deadline),
      hint = 'It is counted from now: ''10 min'', or ''0'' to stop everything at once.';
  end if;
  if drain_node.target is not null then
    destination := mooring_internal.node_named(drain_node.target);
    select h.* into beat
      from mooring.heartbeat h
     where h.node_id = destination.id;
    if destination.id = source.id then
      raise exception using
        errcode = 'MR007',
        message = format('%s cannot be drained to itself', source.name),
        hint = 'Name another node, or none: then each goes wherever it may run.';
    elsif not mooring_internal.node_is_live(beat)
      or not destination.enabled
      or destination.draining_since is not null
      or beat.leaving
    then
      raise exception using
        errcode = 'MR006',
        message = format(
          '%s takes no new work: it is %s',
          destination.name,
          case
            when not mooring_internal.node_is_live(beat) then 'not live'
            when not destination.enabled then 'disabled'
            when destination.draining_since is not null then 'draining'
            else 'leaving'
          end),
        hint = 'Name another node, or none: then each goes wherever it may run.';
    end if;
  end if;
  perform mooring_internal.limit_idle();
  begun := source.draining_since is null;
  update mooring.node n
     set draining_since = coalesce(n.draining_since, clock_timestamp()),
         drain_to = destination.id,
         drain_max_moves = drain_node.max_moves,
         drain_deadline_at = clock_timestamp() + drain_node.deadline,
         drain_total = coalesce(
           n.drain_total,
           (
             select count(*)
               from mooring.assignment a
              where a.node_id = n.id and a.ordinal is not null))
   where n.id = source.id
  returning n.* into source;
  if not found then
    perform mooring_internal.raise_no_such_node(drain_node.name);
  end if;
  perform mooring_internal.add_event(
    case when begun then 'drain_started' else 'drain_changed' end,
    'by an operator',
    source.id,
    jsonb_strip_nulls(jsonb_build_object(
      'total', source.drain_total,
      'to', destination.name,
      'max_moves', source.drain_max_moves,
      'deadline_at', source.drain_deadline_at)));
  -- the claim that this requests takes the first step, once this is committed
  perform mooring_internal.enqueue('place');
  return query
    select p.node, p.total, p."left", p.moving, p.blocked, p.why
      from mooring.drain_progress p
     where p.node = source.name;
end;
$$;
comment on function mooring.drain_node(text, text, int, interval) is
  'Closes a node and moves away what it runs, max_moves at a time, all to target if one is given. '
  'After deadline, counted from now, everything left is stopped at once. '
  'Returns what is to be done; view drain_progress shows how far it is.';
