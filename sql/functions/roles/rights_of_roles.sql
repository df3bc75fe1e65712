create or replace function mooring_internal.rights_of_roles() returns jsonb
  language sql immutable parallel safe
return '{
  "verbs": {
    "mooring_viewer": [
      "schema_version", "explain", "last_events", "placements_of", "history", "placement_at",
      "simulate_node_loss", "simulate_drain", "simulate_insert", "doctor", "server_identity",
      "node_is_live", "node_is_held",
      "worker_is_alive", "hold_reason", "moves_under_way", "drain_obstacles",
      "pending_reasons", "waiting_for_namesakes", "awaited_nodes", "placement_lock_holder",
      "lock_space", "lock_key", "round_interval"],
    "mooring_operator": [
      "reassign", "restart", "drain_node", "undrain_node", "hold_node", "upsert_node",
      "set_node_enabled", "forget_node", "resume_reaping", "rebalance",
      "request_log", "read_log", "log_text", "show_log"],
    "mooring_agent": [
      "schema_version", "server_identity", "register_node", "heartbeat", "assignments_of",
      "report", "begin_leave", "leave", "tick", "log_requests_of", "answer_log"],
    "mooring_workload": ["assert_owner"]},
  "tables": {
    "mooring_viewer": [
      "select on mooring.setting, mooring.policy, mooring.node, mooring.event",
      "select (id, name, labels, type, package_name, package_version, enabled, replicas, policy, '
      'selector, pinned_node, needs_urls, on_lost, handover, lease_ttl, stop_grace, generation, '
      'created_at, updated_at) on mooring.deployment"],
    "mooring_operator": [
      "select, insert, update, delete on mooring.deployment",
      "update on mooring.setting",
      "insert (name, enabled, weight, labels, max_assignments, agent_base_url, '
      'gateway_base_url, role_name), '
      'update (enabled, weight, labels, max_assignments, agent_base_url, '
      'gateway_base_url, role_name) on mooring.node"]}}'::jsonb;
comment on function mooring_internal.rights_of_roles() is
  'The verbs and the grants on tables that each role gets; doctor() compares them with the '
  'catalog.';
