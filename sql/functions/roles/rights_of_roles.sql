-- set_up_roles: who may do what, in one place. Makes the four group roles where it may, and gives each what its members need; whatever else they had in this
-- schema is taken away. Roles belong to the cluster and grants to the database, so it is run by every migration, and again by each `mooring migrate`:
-- where the migrating role may not make roles, somebody else does, and then it is run once more. Until then everything works for the owner of the schema.
--   mooring_viewer     the views, explain, history; of deployments neither env nor args nor command
--   mooring_operator   the same, deployments with all they hold, the operator's verbs, logs, the editable columns of node, the settings. Not policies: their functions run as the owner
--   mooring_agent      the agent's verbs, each for the nodes of the login only, and no table
--   mooring_workload   assert_owner(), which can hold up the failover of whatever it names: so not everybody's
-- Workers have no role: graphile_worker's tables show their rows to their owner only.
create or replace function mooring.rights_of_roles() returns jsonb
  language sql immutable parallel safe
return '{
  "verbs": {
    "mooring_viewer": ["schema_version", "explain", "last_events", "placements_of", "history", "placement_at", "simulate_node_loss", "simulate_drain", "simulate_insert", "doctor",
      "node_is_live", "worker_is_alive", "holding", "moves", "drain_obstacles", "why_unplaced", "awaited_nodes", "placement_lock_holder", "lock_space", "lock_key", "round_interval"],
    "mooring_operator": ["reassign", "restart", "drain_node", "undrain_node", "upsert_node", "set_node_enabled", "forget_node", "resume_reaping", "rebalance", "request_log", "read_log", "log_text", "show_log"],
    "mooring_agent": ["schema_version", "register_node", "heartbeat", "assignments_of", "report", "begin_leave", "leave", "tick", "log_requests_of", "answer_log"],
    "mooring_workload": ["assert_owner"]},
  "tables": {
    "mooring_viewer": ["select on mooring.setting, mooring.policy, mooring.node, mooring.event",
      "select (id, name, labels, type, package_name, package_version, enabled, replicas, policy, selector, pinned_node, needs_urls, on_lost, handover, lease_ttl, stop_grace, generation, created_at, updated_at) on mooring.deployment"],
    "mooring_operator": ["select, insert, update, delete on mooring.deployment", "update on mooring.setting",
      "insert (name, enabled, weight, labels, max_assignments, agent_base_url, gateway_base_url, role_name), update (enabled, weight, labels, max_assignments, agent_base_url, gateway_base_url, role_name) on mooring.node"]}}'::jsonb;
comment on function mooring.rights_of_roles() is 'The verbs and the grants on tables that each role gets; doctor() compares them with what is there.';
