-- restart: stops one assignment and starts it again where it is, under a new epoch: a move to its own node, so a place is kept for it, and what becomes of the node
-- meanwhile (it dies, is disabled, is drained) is what becomes of any move: lease and margin, then wherever it may go, with an event. A daemon's row ends and is made anew.
-- Refused where it would be lost: its node would not take it back, and no other node can. A whole deployment at once needs no verb: add 1 to its generation.
-- locks: placement, then assignment (its row, waiting 5 s at most, see lock_to_move)
create or replace function mooring.restart(assignment bigint, reason text default null) returns mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  why constant text := 'restarted' || coalesce(': ' || left(nullif(restart.reason, ''), 200), '');
  row mooring.assignment;
  owner text;
  spec mooring.deployment;
  fit record;
  obstacle text;
  held boolean;
begin
  row := mooring_internal.lock_to_move(restart.assignment);
  select n.name into owner from mooring.node n where n.id = row.node_id;
  select d.* into spec from mooring.deployment d where d.id = row.deployment_id;
  perform mooring_internal.raise_if_in_handover(row);
  held := mooring_internal.notice_outage();
  if row.wanted = 'stop' then
    raise exception using errcode = 'MR006', message = format('assignment %s is to stop already: %s', row.id, coalesce(row.stop_reason, format('its deployment %s is disabled', row.deployment_id))),
      hint = case when row.move_reason is not null then 'It starts again by itself: see mooring.placement.' else 'There is nothing to restart.' end;
  elsif spec.id is null then
    -- a daemon's: its row is told to stop by the next round
    raise exception using errcode = 'MR006', message = format('assignment %s is to stop: its deployment was deleted', row.id), hint = 'There is nothing to restart.';
  elsif row.node_id is null then
    raise exception using errcode = 'MR006', message = format('assignment %s waits for a node and does not run', row.id), hint = format('See mooring.unplaced and mooring.explain(%s).', row.deployment_id);
  elsif held then
    raise exception using errcode = 'MR006', message = format('nothing is restarted during a hold: %s', mooring_internal.hold_reason()), hint = format('It ends at %s; see mooring.fleet.', (select p.hold_until from mooring_internal.pulse p));
  end if;
  select e.* into strict fit from mooring_internal.eligibility(array[row.deployment_id]) e where e.node_id = row.node_id;
  if not fit.live then
    raise exception using errcode = 'MR006', message = format('the agent of %s is silent: nobody there would restart assignment %s', owner, row.id), hint = 'Wait: it is heard again, or what it owns goes elsewhere when the lease and the margin are over.';
  elsif row.ordinal is null then
    update mooring.assignment a set wanted = 'stop', stop_reason = why where a.id = row.id returning a.* into row;
    insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason) values ('stop_wanted', row.id, row.deployment_id, row.node_id, owner, row.epoch, why);
    return row;
  end if;
  -- it leaves its own place to itself
  fit.has_room := true;
  obstacle := mooring_internal.reason_not_eligible(fit);
  if obstacle is not null and (
    (select p.kind from mooring.setting s join mooring.policy p on p.name = coalesce(spec.policy, s.default_policy)) = 'none'
    or not exists (select from mooring_internal.eligibility(array[row.deployment_id]) e where e.eligible and e.node_id <> all (row.refused_by))) then
    raise exception using errcode = 'MR006', message = format('assignment %s would not start again: %s would not take it back (%s), and no other node can', row.id, owner, obstacle), hint = format('It runs on. See mooring.explain(%s).', row.deployment_id);
  end if;
  -- stopped first, whatever its deployment says of moves: beside itself on one node it would look for the same port and folder
  perform mooring_internal.order_moves(array[row.id], array[row.node_id], why, at_once => true);
  select a.* into row from mooring.assignment a where a.id = row.id;
  return row;
end;
$$;
comment on function mooring.restart(bigint, text) is 'Stops an assignment and starts it again on its node. For all of a deployment at once add 1 to its generation.';
