-- reassign: moves one assignment to a node by name.
-- What runs is stopped by its owner first. It is placed when the owner reports that its processes
-- are gone, or when lease and margin have passed, so there is no moment with two owners.
-- Start-first work that runs gets a successor on the target instead, which is returned; the owner
-- stops when the successor runs. Pending work is placed at once. A place is kept on the target
-- meanwhile. When the move gets there the target is judged again; if it cannot take the work any
-- more, the work goes wherever it may, with an event. A second call changes the target of a move
-- under way. During a handover it raises MR006.
-- locks: placement, then assignment (its row, waiting 5 s at most, see lock_to_move)
create or replace function mooring.reassign(assignment bigint, target text)
  returns mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  row mooring.assignment;
  node mooring.node;
  owner text;
  spec mooring.deployment;
  fit record;
  obstacle text;
  on_hold boolean;
begin
  row := mooring_internal.lock_to_move(reassign.assignment);
  node := mooring_internal.node_named(reassign.target);
  select n.name into owner
    from mooring.node n
   where n.id = row.node_id;
  select d.* into spec
    from mooring.deployment d
   where d.id = row.deployment_id;
  if row.ordinal is null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is a daemon''s and stays on %s', row.id, owner),
      hint = 'A daemon runs on every permitted node: change its selector, or stop the agent.';
  elsif spec.id is null or not spec.enabled or row.surplus then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s is not to run: its deployment %s',
        row.id,
        case
          when spec.id is null then 'was deleted'
          when not spec.enabled then 'is disabled'
          else 'was scaled down'
        end),
      hint = case
        when spec.id is not null and not spec.enabled then format(
          'Enable it first: update mooring.deployment set enabled = true where id = %s;', spec.id)
        else 'There is nothing to move.'
      end;
  end if;
  perform mooring_internal.raise_if_in_handover(row);
  if row.node_id = node.id and row.wanted = 'run' then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is on %s already', row.id, node.name),
      hint = format(
        'To restart it there: select * from mooring.restart(%s), or mooring restart assignment %s.',
        row.id, row.id);
  end if;
  select e.* into strict fit
    from mooring_internal.eligibility(array[row.deployment_id]) e
   where e.node_id = node.id;
  -- the place that is kept for it already is no obstacle
  fit.has_room := fit.has_room or row.move_to is not distinct from node.id;
  obstacle := coalesce(
    mooring_internal.reason_not_eligible(fit),
    case when node.id = any (row.refused_by) then 'its agent refused it, or it failed there' end);
  if obstacle is not null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s cannot go to %s: %s', row.id, node.name, obstacle),
      hint = case
        when not fit.pin_ok then format(
          'It is pinned to %s: change pinned_node of deployment %s, and it moves by itself.',
          spec.pinned_node, spec.id)
        when not fit.selector_ok then format(
          'The node needs the labels %s: label it with upsert_node(), or change the selector.',
          spec.selector)
        when not fit.driver_ok then 'Start its agent with --allow-exec.'
        when not fit.trust_ok then 'Start its agent with a wider --trust.'
        when not fit.urls_ok then 'Give the node both base URLs with upsert_node().'
        when not fit.live then 'Start its agent.'
        when not fit.enabled then format(
          'Enable it: select from mooring.set_node_enabled(%L, true), or mooring enable node %s.',
          node.name, node.name)
        when not fit.not_draining then format(
          'End the drain: select from mooring.undrain_node(%L), or mooring undrain %s.',
          node.name, node.name)
        when not fit.has_room then 'Raise its max_assignments with upsert_node().'
        when not fit.disk_ok then 'Free disk space there, or lower setting.disk_free_min_pct.'
        else 'See last_error in mooring.placement; after an edit of its spec the agent tries again.'
      end || format(' See mooring.explain(%s).', spec.id);
  end if;
  on_hold := mooring_internal.notice_outage();
  if on_hold then
    perform mooring_internal.raise_hold('moved');
  end if;
  if row.node_id is not null then
    perform mooring_internal.order_moves(
      array[row.id], array[node.id], format('reassigned to %s', node.name));
  else
    update mooring.assignment a
       set move_to = node.id,
           move_reason = format('reassigned to %s', node.name)
     where a.id = row.id;
    perform mooring_internal.place_moves(ids => array[row.id]);
  end if;
  select a.* into row
    from mooring.assignment a
   where a.id = coalesce(
     (select c.id from mooring_internal.handover_rows() c where c.replica = row.id),
     row.id);
  return row;
end;
$$;
comment on function mooring.reassign(bigint, text) is
  'Moves an assignment to a node: its owner stops it, and then it is placed there. Of start-first '
  'work it returns the successor there. MR006 says why an assignment cannot go there, with the way '
  'out.';
