-- Policies: cost of the k-th further assignment on a node; lower is better, never falling in k, null is unknown. The weight of the node is
-- applied by whoever calls. One expression each and no search_path, so that they are inlined into the query that compares the nodes.
create or replace function mooring.policy_deployment_count(node mooring.node_state, k int) returns float8
  language sql immutable parallel safe
return (node).assigned + k;
comment on function mooring.policy_deployment_count(mooring.node_state, int) is 'Policy deployment_count: assignments the node would have.';

-- cpu percent of the machine and GiB resident, weighted (weights normalised to 1). Work that is assigned but was not running at the last
-- sample counts one point each, else everything placed between two samples would go to one node. A node without a sample is unknown.
create or replace function mooring.policy_resource_usage(node mooring.node_state, k int) returns float8
  language sql stable parallel safe
return (select ((node).cpu_pct * s.cpu_weight + (node).memory_mb / 1024 * s.memory_weight) / (s.cpu_weight + s.memory_weight)
  + greatest((node).assigned - coalesce((node).running, 0), 0) + k from mooring.setting s);
comment on function mooring.policy_resource_usage(mooring.node_state, int) is 'Policy resource_usage: cpu percent and memory GiB by weight, plus one per assignment not yet observed.';
