-- Policies: what a place costs. Lower is better, null is unknown.
--   kind load      the cost of the k-th further assignment on a node, never falling in k
--   kind affinity  the cost of this assignment on this node
-- The caller applies the weight of the node. A policy is one expression without search_path, so
-- that it inlines into the query that compares the nodes, unless it reads a table as resource_usage
-- does. docs/policies.md shows how to add one.
create or replace function mooring.policy_deployment_count(
  node mooring.node_state,
  k int
) returns float8
  language sql immutable parallel safe
return (node).assigned + k;
comment on function mooring.policy_deployment_count(mooring.node_state, int) is
  'Policy deployment_count: assignments the node would have.';

-- The machine's cpu percent and resident GiB, weighted, with weights normalised to 1.
-- Assigned work that did not run at the last sample counts one point each. Otherwise one node would
-- get everything that is placed between two samples. A node without a sample is unknown.
create or replace function mooring.policy_resource_usage(
  node mooring.node_state,
  k int
) returns float8
  language sql stable parallel safe
return (
  select ((node).cpu_pct * s.cpu_weight + (node).memory_mb / 1024 * s.memory_weight)
           / (s.cpu_weight + s.memory_weight)
         + greatest((node).assigned - coalesce((node).running, 0), 0) + k
    from mooring.setting s);
comment on function mooring.policy_resource_usage(mooring.node_state, int) is
  'Policy resource_usage: cpu percent and memory GiB by weight, '
  'plus one per assignment not yet observed.';

-- Percent of the disk in use. Assigned work that did not run at the last sample counts one percent
-- each, so that the emptiest disk does not get everything that is placed between two samples.
-- A node below setting.disk_free_min_pct is not eligible at all.
create or replace function mooring.policy_disk_free(
  node mooring.node_state,
  k int
) returns float8
  language sql immutable parallel safe
return 100 - (node).disk_free_pct
  + greatest((node).assigned - coalesce((node).running, 0), 0) + k;
comment on function mooring.policy_disk_free(mooring.node_state, int) is
  'Policy disk_free: percent of the disk in use, plus one per assignment not yet observed.';

-- Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005). u is a hash of assignment and
-- node in (0, 1); the least -ln(u) / weight wins, which gives each node its share by weight.
-- No third node decides which of two nodes wins. So a node that goes gives up only its own
-- assignments, and a node that comes gets only its share.
-- The hash uses the name, so a node that was forgotten and comes back is the same node.
create or replace function mooring.policy_hash(
  node mooring.node_state,
  assignment mooring.assignment
) returns float8
  language sql immutable parallel safe
return -ln(
  ((hashtextextended((node).name, (assignment).id) & 4503599627370495)::float8 + 0.5)
    / 4503599627370496.0::float8);
comment on function mooring.policy_hash(mooring.node_state, mooring.assignment) is
  'Policy hash: weighted rendezvous hashing of assignment and node.';
