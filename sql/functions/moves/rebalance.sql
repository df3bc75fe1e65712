-- rebalance: parts twins and evens out the load when an operator calls it, because nothing moves
-- running work by itself. At most max_moves of its moves are under way at any time, so it may be
-- called again and again. Each move is executed like reassign(), by the handover of its deployment.
-- What becomes ineligible meanwhile goes wherever it may.
-- locks: none with dry_run; placement, then assignment rows (skip locked)
create or replace function mooring.rebalance(
  max_moves int default 10,
  dry_run boolean default true
) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node text,
  to_node text,
  gain float8
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  reason constant text := 'rebalanced';
  under_way int;
  ids bigint[];
  deployments bigint[];
  sources int[];
  targets int[];
  gains float8[];
  locked bigint[];
  on_hold boolean;
begin
  if rebalance.max_moves < 1 or rebalance.max_moves is null or rebalance.dry_run is null then
    raise exception using
      errcode = 'MR007',
      message = case
        when rebalance.dry_run is null then 'dry_run is null'
        else format('max_moves is %s', coalesce(rebalance.max_moves::text, 'null'))
      end,
      hint = 'Give max_moves of 1 or more, and dry_run => false to move.';
  end if;
  if not rebalance.dry_run then
    perform mooring_internal.lock_placement(must_wait => true);
    on_hold := mooring_internal.notice_outage();
    if on_hold then
      perform mooring_internal.raise_hold('moved');
    end if;
  end if;
  select count(*) into under_way
    from mooring_internal.moves_under_way() m
    join mooring.assignment a on a.id = m.assignment_id
   where a.move_reason = reason
     and m.handover is distinct from 'leaving';
  select
      array_agg(p.assignment_id),
      array_agg(p.deployment_id),
      array_agg(p.from_node),
      array_agg(p.to_node),
      array_agg(p.gain)
    into ids, deployments, sources, targets, gains
    from mooring_internal.plan_rebalance(rebalance.max_moves - under_way) p;
  if not rebalance.dry_run and ids is not null then
    select array_agg(l.id) into locked
      from (
        select a.id
          from unnest(ids, sources) o (id, node_id)
          join mooring.assignment a on a.id = o.id and a.node_id = o.node_id
         where a.wanted = 'run' and a.move_reason is null
         order by a.id
           for no key update of a skip locked) l;
    -- what is left out is worth its move at the next call
    locked := mooring_internal.within_budget(coalesce(locked, '{}'));
    perform mooring_internal.order_moves(
      locked,
      array(
        select targets[array_position(ids, u.id)]
          from unnest(locked) with ordinality u (id, nr)
         order by u.nr),
      reason);
    perform mooring_internal.add_event(
      'rebalance_started',
      'by an operator',
      detail => jsonb_build_object(
        'moves', coalesce(cardinality(locked), 0),
        'max_moves', rebalance.max_moves));
  end if;
  return query
    select p.id, p.deployment_id, f.name, t.name, p.gain
      from unnest(ids, deployments, sources, targets, gains)
        with ordinality p (id, deployment_id, from_node, to_node, gain, nr)
      left join mooring.node f on f.id = p.from_node
      left join mooring.node t on t.id = p.to_node
     where rebalance.dry_run or p.id = any (locked)
     order by p.nr;
end;
$$;
comment on function mooring.rebalance(int, boolean) is
  'Parts replicas that share a node and evens out the load, by at most max_moves moves at a time; '
  'returns them with what each gains. '
  'It only shows them unless dry_run is false.';
