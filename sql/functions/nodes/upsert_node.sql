-- upsert_node: what operators set for a node, before or after its agent registered. null leaves a
-- column as it is. What the agent states of itself (trusts, drivers) comes with its registration.
-- locks: node
create or replace function mooring.upsert_node(
  name text,
  weight float8 default null,
  labels jsonb default null,
  max_assignments int default null,
  agent_base_url text default null,
  gateway_base_url text default null,
  enabled boolean default null
) returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  before mooring.node;
  after mooring.node;
begin
  perform mooring_internal.check_node_name(upsert_node.name);
  perform mooring_internal.limit_idle();
  insert into mooring.node (
    name, weight, labels, max_assignments, agent_base_url, gateway_base_url, enabled)
  select upsert_node.name,
      coalesce(upsert_node.weight, 100),
      coalesce(upsert_node.labels, '{}'),
      upsert_node.max_assignments,
      upsert_node.agent_base_url,
      upsert_node.gateway_base_url,
      coalesce(upsert_node.enabled, true)
   -- see register_node(): a node that exists must not use up a number of the identity
   where not exists (select from mooring.node o where o.name = upsert_node.name)
  on conflict (name) do nothing
  returning * into after;
  if after.id is not null then
    return after;
  end if;
  select n.* into before
    from mooring.node n
   where n.name = upsert_node.name
     for no key update;
  update mooring.node n
     set weight = coalesce(upsert_node.weight, n.weight),
         labels = coalesce(upsert_node.labels, n.labels),
         max_assignments = coalesce(upsert_node.max_assignments, n.max_assignments),
         agent_base_url = coalesce(upsert_node.agent_base_url, n.agent_base_url),
         gateway_base_url = coalesce(upsert_node.gateway_base_url, n.gateway_base_url),
         enabled = coalesce(upsert_node.enabled, n.enabled)
   where n.id = before.id
     and (
       n.weight,
       n.labels,
       n.max_assignments,
       n.agent_base_url,
       n.gateway_base_url,
       n.enabled
     ) is distinct from (
       coalesce(upsert_node.weight, n.weight),
       coalesce(upsert_node.labels, n.labels),
       coalesce(upsert_node.max_assignments, n.max_assignments),
       coalesce(upsert_node.agent_base_url, n.agent_base_url),
       coalesce(upsert_node.gateway_base_url, n.gateway_base_url),
       coalesce(upsert_node.enabled, n.enabled)
     )
  returning n.* into after;
  if after.id is null then
    return before;
  end if;
  return after;
end;
$$;
comment on function mooring.upsert_node(text, float8, jsonb, int, text, text, boolean) is
  'Adds a node or changes what is given of it: weight, labels, limit, base URLs, enabled. Returns '
  'the node. An event names what changed, as [before, after].';
