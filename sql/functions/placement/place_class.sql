-- One step of every placement, real or simulated: chooses places for the next work of one class, in
-- queue order, by the loads as the steps before left them.
-- claim(), plan_placement(), advance_drains() and simulate_drain() call it; each of them writes or
-- shows the result itself.
-- given: places that were chosen since the loads in nodes were added up. They are added here, so
-- that the last step of a call adds up nothing.
-- placed_*: see choose_places().
-- A policy that fails raises; the caller then keeps its nodes and given as they are.
-- Reads what choose_places() reads, locks and writes nothing.
create or replace function mooring_internal.place_class(
  nodes mooring.node_state[],
  given int[],
  class mooring_internal.placement_class,
  ids bigint[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[] default '{}',
  placed_nodes int[] default '{}',
  out nodes_now mooring.node_state[],
  out chosen int[],
  out exhausted boolean,
  out rule text
)
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  nodes_now := nodes;
  if given <> '{}' then
    nodes_now := mooring_internal.with_load(nodes, given);
  end if;
  chosen := mooring_internal.choose_places(
    nodes_now,
    class.node_ids,
    class.policy,
    ids,
    deployments,
    last_nodes,
    replicated,
    placed_deployments,
    placed_nodes);
  exhausted := cardinality(chosen) < cardinality(ids);
  rule := 'cheapest by ' || class.policy;
end;
$$;
comment on function mooring_internal.place_class(
  mooring.node_state[],
  int[],
  mooring_internal.placement_class,
  bigint[],
  bigint[],
  int[],
  boolean,
  bigint[],
  int[]
) is
  'Chooses places for the next work of one class. nodes_now: the loads with what was given before. '
  'chosen: the nodes, fewer where room runs out (exhausted). rule: the rule in words.';
