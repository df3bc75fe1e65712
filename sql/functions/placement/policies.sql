-- Policies: what a place costs; lower is better, null is unknown. Of kind load: the k-th further assignment on a node, never falling in k; of
-- kind affinity: this assignment on this node. The weight of the node is applied by whoever calls. One expression each and no search_path, so
-- that they are inlined into the query that compares the nodes. docs/policies.md shows how to add one.
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

-- Percent of the disk in use. What is assigned and was not running at the last sample counts one percent each, so that the emptiest disk does not
-- get everything placed between two samples. A node below setting.disk_free_min_pct is not eligible at all.
create or replace function mooring.policy_disk_free(node mooring.node_state, k int) returns float8
  language sql immutable parallel safe
return 100 - (node).disk_free_pct + greatest((node).assigned - coalesce((node).running, 0), 0) + k;
comment on function mooring.policy_disk_free(mooring.node_state, int) is 'Policy disk_free: percent of the disk in use, plus one per assignment not yet observed.';

-- Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): u is a hash of assignment and node in (0, 1), and the least -ln(u) / weight wins, which
-- gives each node its share by weight. Which of two nodes wins depends on no third one: a node that goes gives up its own, a node that comes takes its share.
-- By name: a node that was forgotten and comes back is the same.
create or replace function mooring.policy_hash(node mooring.node_state, assignment mooring.assignment) returns float8
  language sql immutable parallel safe
return -ln(((hashtextextended((node).name, (assignment).id) & 4503599627370495)::float8 + 0.5) / 4503599627370496.0::float8);
comment on function mooring.policy_hash(mooring.node_state, mooring.assignment) is 'Policy hash: weighted rendezvous hashing of assignment and node.';
