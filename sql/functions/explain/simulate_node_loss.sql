-- simulate_node_loss: where the work of a node would go if the node were lost now and its lease had
-- ended. Daemons are left out, because they end with their node.
create or replace function mooring.simulate_node_loss(name text) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node text,
  to_node text,
  reason text
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  lost mooring.node := mooring_internal.node_named(simulate_node_loss.name);
begin
  return query
    select p.assignment_id, p.deployment_id, lost.name, n.name, p.reason
      from mooring.plan_placement(lost.id) p
      left join mooring.node n on n.id = p.to_node
     order by p.assignment_id;
end;
$$;
comment on function mooring.simulate_node_loss(text) is
  'Where each assignment of a node would go if the node were lost. to_node is null where it would '
  'go nowhere, and reason says why. Locks and writes nothing.';
