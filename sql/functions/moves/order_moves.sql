-- Orders the owners of these assignments to stop them, so that they can go to the nodes beside
-- them. A row stays with its owner until the owner reports that the processes are gone, or until
-- lease and margin have passed. Start-first work gets a successor instead, see begin_handovers();
-- with at_once it is stopped like the rest.
-- locks: none beyond the rows, which the caller has locked; the caller holds placement
create or replace function mooring_internal.order_moves(
  ids bigint[],
  nodes int[],
  reason text,
  at_once boolean default false
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  handed_over bigint[] := case
    when order_moves.at_once then '{}'
    else mooring_internal.begin_handovers(
      order_moves.ids, order_moves.nodes, order_moves.reason)
  end;
begin
  with ordered as (
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = case
             when a.wanted = 'run' then order_moves.reason
             else a.stop_reason
           end,
           move_to = o.node_id,
           move_reason = order_moves.reason
      from unnest(order_moves.ids, order_moves.nodes) o (id, node_id)
     where a.id = o.id and a.node_id is not null and a.id <> all (handed_over)
    returning a.*
  )
  insert into mooring.event
    (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
  select 'move_wanted', o.id, o.deployment_id, o.node_id, n.name, o.epoch, order_moves.reason,
      jsonb_build_object('to', t.name)
    from ordered o
    left join mooring.node n on n.id = o.node_id
    left join mooring.node t on t.id = o.move_to
   order by o.id;
end;
$$;
comment on function mooring_internal.order_moves(bigint[], int[], text, boolean) is
  'Orders the owners of these assignments to stop them, each to go to the node beside it (null: '
  'any node that may run it). Running start-first work gets a successor there instead, unless '
  'at_once.';
