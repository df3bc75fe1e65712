-- upsert_node: what operators set for a node, before or after its agent registered. null leaves a
-- column as it is. Labels are added to those there are, because taking one away stops work. What
-- the agent states of itself (trusts, drivers) comes with its registration.
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
  wanted mooring.node;
begin
  perform mooring_internal.check_node_name(upsert_node.name);
  perform mooring_internal.limit_idle();
  insert into mooring.node (
    name, weight, labels, max_assignments, agent_base_url, gateway_base_url, enabled)
  select upsert_node.name,
      coalesce(upsert_node.weight, 100),
      mooring_internal.with_labels('{}', upsert_node.labels),
      nullif(upsert_node.max_assignments, -1),
      nullif(upsert_node.agent_base_url, ''),
      nullif(upsert_node.gateway_base_url, ''),
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
  wanted := before;
  wanted.weight := coalesce(upsert_node.weight, before.weight);
  wanted.labels := mooring_internal.with_labels(before.labels, upsert_node.labels);
  wanted.max_assignments := nullif(
    coalesce(upsert_node.max_assignments, before.max_assignments), -1);
  wanted.agent_base_url := nullif(
    coalesce(upsert_node.agent_base_url, before.agent_base_url), '');
  wanted.gateway_base_url := nullif(
    coalesce(upsert_node.gateway_base_url, before.gateway_base_url), '');
  wanted.enabled := coalesce(upsert_node.enabled, before.enabled);
  if wanted is not distinct from before then
    return before;
  end if;
  update mooring.node n
     set weight = wanted.weight,
         labels = wanted.labels,
         max_assignments = wanted.max_assignments,
         agent_base_url = wanted.agent_base_url,
         gateway_base_url = wanted.gateway_base_url,
         enabled = wanted.enabled
   where n.id = before.id
  returning n.* into after;
  return after;
end;
$$;
comment on function mooring.upsert_node(text, float8, jsonb, int, text, text, boolean) is
  'Adds a node or changes what is given of it: weight, labels, limit, base URLs, enabled. Labels '
  'are added or changed, and {"zone": null} takes zone away. A limit of -1 and an empty URL take '
  'these away. Returns the node. An event names what changed, as [before, after].';
