-- restart: stops one assignment and starts it again on its node, under a new epoch.
-- It is a move to its own node, so a place is kept for it. When the node dies, is disabled or is
-- drained meanwhile, it goes on like any move: after lease and margin, wherever it may go, with an
-- event. The row of a daemon ends, and a new one is made.
-- It raises MR006 where the assignment would be lost: its node would not take it back, and no other
-- node can. A whole deployment needs no verb: add 1 to its generation.
-- locks: placement, then assignment (its row, waiting 5 s at most, see lock_to_move)
create or replace function mooring.restart(assignment bigint, reason text default null)
  returns mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  why constant text :=
    'restarted' || coalesce(': ' || left(nullif(restart.reason, ''), 200), '');
  row mooring.assignment;
  owner text;
  spec mooring.deployment;
  fit record;
  obstacle text;
  on_hold boolean;
begin
  row := mooring_internal.lock_to_move(restart.assignment);
  select n.name into owner
    from mooring.node n
   where n.id = row.node_id;
  select d.* into spec
    from mooring.deployment d
   where d.id = row.deployment_id;
  perform mooring_internal.raise_if_in_handover(row);
  on_hold := mooring_internal.notice_outage();
  if row.wanted = 'stop' then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s is to stop already: %s',
        row.id,
        coalesce(
          row.stop_reason, format('its deployment %s is disabled', row.deployment_id))),
      hint = case
        when row.move_reason is not null then
          'It starts again by itself: see mooring.placement.'
        else 'There is nothing to restart.'
      end;
  elsif spec.id is null then
    -- a daemon's row; the next round orders it to stop
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is to stop: its deployment was deleted', row.id),
      hint = 'There is nothing to restart.';
  elsif row.node_id is null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s waits for a node and does not run', row.id),
      hint = format('See mooring.unplaced and mooring.explain(%s).', row.deployment_id);
  elsif on_hold then
    perform mooring_internal.raise_hold('restarted');
  end if;
  select e.* into strict fit
    from mooring_internal.eligibility(array[row.deployment_id]) e
   where e.node_id = row.node_id;
  if not fit.live then
    raise exception using
      errcode = 'MR006',
      message = format(
        'the agent of %s is silent and would not restart assignment %s', owner, row.id),
      hint = 'Wait until the agent beats again. If it stays silent, its work goes elsewhere when '
        'the lease and the margin have passed.';
  elsif row.ordinal is null then
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = why
     where a.id = row.id
    returning a.* into row;
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
    values ('stop_wanted', row.id, row.deployment_id, row.node_id, owner, row.epoch, why);
    return row;
  end if;
  -- the place it leaves is its own
  fit.has_room := true;
  obstacle := mooring_internal.reason_not_eligible(fit);
  if obstacle is not null
    and (
      (
        select p.kind
          from mooring.setting s
          join mooring.policy p on p.name = coalesce(spec.policy, s.default_policy)) = 'none'
      or not exists (
        select from mooring_internal.eligibility(array[row.deployment_id]) e
         where e.eligible and e.node_id <> all (row.refused_by)))
  then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s would not start again: %s would not take it back (%s), '
        'and no other node can',
        row.id, owner, obstacle),
      hint = format('It runs on. See mooring.explain(%s).', row.deployment_id);
  end if;
  -- stop-first whatever its deployment says: beside itself on one node it would use the same port
  -- and folder
  perform mooring_internal.order_moves(
    array[row.id], array[row.node_id], why, at_once => true);
  select a.* into row
    from mooring.assignment a
   where a.id = row.id;
  return row;
end;
$$;
comment on function mooring.restart(bigint, text) is
  'Stops an assignment and starts it again on its node. '
  'To restart all of a deployment, add 1 to its generation.';
