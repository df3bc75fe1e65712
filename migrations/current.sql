-- Everything that changes state. Definitions that are harmless to re-run live in ../sql and are included at the end.
-- Five nouns, five writers: a user writes deployment, the scheduler assignment, an agent's beat heartbeat, an agent's report run,
-- and everybody appends to event. No writer touches another's row, so an admin's edit never blocks a beat and a beat never undoes an edit.

create schema mooring;
comment on schema mooring is 'Mooring: long-running processes placed on hosts, with Postgres as the only control plane. Start with select * from mooring.help; then mooring.placement, mooring.fleet and \d+ mooring.deployment.';

-- Schema mooring holds what people use. What the verbs and views are made of is here, and nobody but the owner has rights on it.
create schema mooring_internal;
comment on schema mooring_internal is 'What Mooring''s verbs and views are made of: helper functions, trigger functions and the scheduler''s own tables. Not to be called or written by hand; it changes without notice. What people use is in schema mooring.';

-- policy: how nodes are compared. A policy is a SQL function registered by name; see docs on adding one.
create table mooring.policy (
  name text not null constraint policy_name_is_a_word check (length(name) <= 63 and name ~ '^[a-z][a-z0-9_]*$'),
  kind text not null constraint policy_kind_is_known check (kind in ('load', 'affinity', 'none')),
  cost_function text constraint policy_cost_function_is_a_plain_name check (cost_function ~ '^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$'),
  description text not null,
  fallback text,
  constraint policy_pkey primary key (name),
  constraint policy_fallback_fkey foreign key (fallback) references mooring.policy (name) on update cascade,
  constraint policy_compares_by_a_cost_function check ((kind = 'none') = (cost_function is null))
);
comment on table mooring.policy is 'How nodes are compared when work is placed. One row per policy; deployment.policy and setting.default_policy name one.';
comment on column mooring.policy.name is 'What deployment.policy says.';
comment on column mooring.policy.kind is 'load: the cost of the k-th further assignment on a node, never falling in k. affinity: the cost of one assignment on one node. none: nothing is placed automatically.';
comment on column mooring.policy.cost_function is 'load: schema.function(node mooring.node_state, k int) returns float8. affinity: schema.function(node mooring.node_state, assignment mooring.assignment) returns float8. Lower is better, null is unknown and sorts last; the result is divided by the node''s weight / 100.';
comment on column mooring.policy.description is 'One sentence for explain and the CLI.';
comment on column mooring.policy.fallback is 'The policy that decides where no node''s cost is known; null: deployment_count.';

insert into mooring.policy (name, kind, cost_function, fallback, description) values
  ('deployment_count', 'load', 'mooring.policy_deployment_count', null, 'fewest assigned first'),
  ('resource_usage', 'load', 'mooring.policy_resource_usage', null, 'least cpu and memory used first, by setting.cpu_weight and memory_weight'),
  ('hash', 'affinity', 'mooring.policy_hash', null, 'each assignment where its hash with the node says, in proportion to the weights'),
  ('disk_free', 'load', 'mooring.policy_disk_free', 'hash', 'most free disk first'),
  ('none', 'none', null, null, 'nothing is placed automatically');

create table mooring.setting (
  only_row boolean not null default true constraint setting_is_one_row check (only_row),
  beat_interval interval not null default '3 s' constraint setting_beat_interval_is_sane check (beat_interval between interval '20 ms' and interval '10 min'),
  lease_ttl interval not null default '12 s' constraint setting_lease_ttl_is_sane check (lease_ttl between interval '100 ms' and interval '1 hour'),
  reap_margin interval not null default '3 s' constraint setting_reap_margin_is_sane check (reap_margin between interval '50 ms' and interval '10 min'),
  round_interval interval not null default '2 s' constraint setting_round_interval_is_sane check (round_interval between interval '50 ms' and interval '10 min'),
  evict_interval interval not null default '30 s' constraint setting_evict_interval_is_sane check (evict_interval between interval '50 ms' and interval '1 day'),
  prune_interval interval not null default '10 min' constraint setting_prune_interval_is_sane check (prune_interval between interval '50 ms' and interval '1 day'),
  default_policy text not null default 'deployment_count',
  cpu_weight float8 not null default 0.5 constraint setting_cpu_weight_is_between_0_and_a_million check (cpu_weight between 0 and 1000000),
  memory_weight float8 not null default 0.5 constraint setting_memory_weight_is_between_0_and_a_million check (memory_weight between 0 and 1000000),
  disk_free_min_pct float8 not null default 15 constraint setting_disk_free_min_pct_is_a_percentage check (disk_free_min_pct between 0 and 100),
  sticky_slack float8 not null default 1 constraint setting_sticky_slack_is_between_0_and_a_million check (sticky_slack between 0 and 1000000),
  claim_window int not null default 10000 constraint setting_claim_window_is_sane check (claim_window between 1 and 100000),
  placement_lock_timeout interval not null default '5 s' constraint setting_placement_lock_timeout_is_sane check (placement_lock_timeout between interval '10 ms' and interval '10 min'),
  reap_pause_share float8 default 0.5 constraint setting_reap_pause_share_is_a_share check (reap_pause_share between 0 and 1),
  reap_pause_min_nodes int not null default 5 constraint setting_reap_pause_min_nodes_is_positive check (reap_pause_min_nodes >= 1),
  drain_max_moves int not null default 5 constraint setting_drain_max_moves_is_sane check (drain_max_moves between 1 and 10000),
  handover_settle interval not null default '2 s' constraint setting_handover_settle_is_sane check (handover_settle between interval '0' and interval '1 hour'),
  handover_timeout interval not null default '5 min' constraint setting_handover_timeout_is_sane check (handover_timeout between interval '100 ms' and interval '1 day'),
  rebalance_cooldown interval not null default '10 min' constraint setting_rebalance_cooldown_is_sane check (rebalance_cooldown between interval '0' and interval '1 day'),
  return_wait interval not null default '3 s' constraint setting_return_wait_is_sane check (return_wait between interval '0' and interval '1 day'),
  event_retention interval not null default '30 days' constraint setting_event_retention_is_sane check (event_retention between interval '1 min' and interval '100 years'),
  agents_may_add_nodes boolean not null default true,
  constraint setting_pkey primary key (only_row),
  constraint setting_default_policy_fkey foreign key (default_policy) references mooring.policy (name) on update cascade,
  constraint setting_three_beats_fit_into_a_lease check (3 * beat_interval <= lease_ttl),
  constraint setting_some_weight_is_positive check (cpu_weight + memory_weight > 0)
);
comment on table mooring.setting is 'One row of knobs for the whole fleet. A lease already given is never shortened by an edit here.';
comment on column mooring.setting.only_row is 'Always true: there is one row.';
comment on column mooring.setting.beat_interval is 'How often an agent beats. Two lost beats are harmless by default.';
comment on column mooring.setting.lease_ttl is 'How long a confirmed heartbeat lets a node run its assignments.';
comment on column mooring.setting.reap_margin is 'What is waited after a lease ended before the work goes elsewhere: covers clock drift, an unnoticed clock step and the last SIGKILL.';
comment on column mooring.setting.round_interval is 'How often the reap and place rounds run, whatever the notifications said; a sixth of the lease where that is shorter.';
comment on column mooring.setting.evict_interval is 'How often what is no longer permitted on its node is looked for; edits of nodes and deployments ask for it at once.';
comment on column mooring.setting.prune_interval is 'How often old events are deleted.';
comment on column mooring.setting.default_policy is 'The policy of deployments that name none.';
comment on column mooring.setting.cpu_weight is 'Share of cpu in policy resource_usage; the two weights are normalised to 1.';
comment on column mooring.setting.memory_weight is 'Share of memory in policy resource_usage; the two weights are normalised to 1.';
comment on column mooring.setting.disk_free_min_pct is 'A node that reports less free disk than this takes no new work.';
comment on column mooring.setting.sticky_slack is 'How much dearer than the places a claim would take anyway the last node of waiting work may be, and still get it back: in points of a policy of kind load, as explain() shows them (assignments for deployment_count, percent for resource_usage and disk_free).';
comment on column mooring.setting.claim_window is 'How many pending assignments are placed at once: one window, one UPDATE.';
comment on column mooring.setting.placement_lock_timeout is 'How long claim() waits for another placement, and how long a transaction in which a verb took locks may sit idle before the server ends it.';
comment on column mooring.setting.reap_pause_share is 'When more than this share of the nodes that hold a session are silent, reaping pauses until they return or somebody calls resume_reaping(): so many dead at once is more often a network than hosts. null: never.';
comment on column mooring.setting.reap_pause_min_nodes is 'In a fleet of fewer nodes than this reaping never pauses.';
comment on column mooring.setting.drain_max_moves is 'How many assignments of a draining node are on their way at once, where drain_node() was not told otherwise.';
comment on column mooring.setting.handover_settle is 'How long a successor of start-first work has to have run before the old copy is stopped. Processes that fail at once fail by then.';
comment on column mooring.setting.handover_timeout is 'How long a successor may take until it runs; then it is given up and the old copy runs on. Nothing is tried again for as long.';
comment on column mooring.setting.rebalance_cooldown is 'rebalance() leaves alone what came to its node less than this ago.';
comment on column mooring.setting.return_wait is 'After the whole fleet was away: for so long, from the first node that comes back, work that ran before waits for the other nodes that were there. 0: the first node takes it all.';
comment on column mooring.setting.event_retention is 'Events older than this are deleted, and ownerships that ended before.';
comment on column mooring.setting.agents_may_add_nodes is 'false: the role of an agent registers only names that an operator has bound to it (node.role_name); a stolen one cannot multiply.';
insert into mooring.setting default values;

create table mooring.node (
  id int generated by default as identity,
  name text not null constraint node_name_is_a_plain_word check (length(name) <= 63 and name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  enabled boolean not null default true,
  draining_since timestamptz,
  drain_to int,
  drain_max_moves int constraint node_drain_max_moves_is_positive check (drain_max_moves > 0),
  drain_deadline_at timestamptz,
  drain_total int,
  drained_at timestamptz,
  weight float8 not null default 100 constraint node_weight_is_between_a_thousandth_and_a_million check (weight between 0.001 and 1000000),
  -- depth: containment of what nests thousands deep overflows the stack, in every claim
  labels jsonb not null default '{}' constraint node_labels_are_an_object check (jsonb_typeof(labels) = 'object' and octet_length(labels::text) <= 65536 and not jsonb_path_exists(labels, '$.**{32}')),
  max_assignments int constraint node_max_assignments_is_not_negative check (max_assignments >= 0),
  trusts text constraint node_trusts_is_short check (length(trusts) <= 1000),
  drivers text[] not null default '{npm}' constraint node_drivers_are_known check (drivers <@ '{npm,exec}'),
  agent_base_url text constraint node_agent_base_url_is_short check (length(agent_base_url) <= 2048),
  gateway_base_url text constraint node_gateway_base_url_is_short check (length(gateway_base_url) <= 2048),
  role_name name,
  version text,
  containment text constraint node_containment_is_known check (containment in ('pid-namespace', 'pdeathsig', 'process-group')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint node_pkey primary key (id),
  constraint node_name_key unique (name),
  constraint node_that_does_not_drain_has_no_drain check (draining_since is not null or num_nonnulls(drain_to, drain_max_moves, drain_deadline_at, drain_total, drained_at) = 0)
);
-- read by every claim: is there a drain at all?
create index node_draining_idx on mooring.node (id) where draining_since is not null;
comment on table mooring.node is 'A host that runs an agent. Agents register themselves; operators edit enabled, weight, labels, max_assignments.';
comment on column mooring.node.id is 'Identity; agents of the node listen on channel mooring_node_<id>.';
comment on column mooring.node.name is 'Unique and never changed.';
comment on column mooring.node.enabled is 'false: no new work; what runs stays.';
comment on column mooring.node.draining_since is 'Not null: no new work, and what runs is moved away. See drain_node() and view drain_progress.';
comment on column mooring.node.drain_to is 'Where a drain moves everything; null: wherever it may run.';
comment on column mooring.node.drain_max_moves is 'How many of its assignments are on their way at once; null: setting.drain_max_moves.';
comment on column mooring.node.drain_deadline_at is 'From then on a drain stops what is left at once, whether it has somewhere to go or not.';
comment on column mooring.node.drain_total is 'What it owned when the drain began.';
comment on column mooring.node.drained_at is 'When the drain had nothing left to move.';
comment on column mooring.node.weight is 'Capacity relative to 100: a node of 200 takes twice as much.';
comment on column mooring.node.labels is 'What deployment.selector is matched against (selector must be contained in it).';
comment on column mooring.node.max_assignments is 'At most so many assignments, daemons not counted; null is no limit.';
comment on column mooring.node.trusts is 'Regular expression on name@version: which packages the node runs. null: none.';
comment on column mooring.node.drivers is 'npm: runs npm packages. exec: runs custom commands.';
comment on column mooring.node.agent_base_url is 'Where the agent can be reached, for deployments that need it.';
comment on column mooring.node.gateway_base_url is 'Where the workloads of the node can be reached.';
comment on column mooring.node.role_name is 'The database role that first registered the node: only it, and the owner of the schema, may act for it. An operator may change it: the old role''s session is refused from its next beat on.';
comment on column mooring.node.version is 'Version of the agent that registered last.';
comment on column mooring.node.containment is 'What ends a workload whose agent and warden are both gone or stopped. pid-namespace: whatever it started, by the end of the lease. pdeathsig: its own process, by the end of the lease; what left its process group may live on. process-group: its process group, by a timer that nothing guards; what left the group may live on. null: the agent has not said.';
comment on column mooring.node.created_at is 'When the row was made.';
comment on column mooring.node.updated_at is 'When the row was last changed; heartbeats do not count.';

-- heartbeat: only ever updated, many times a second. Narrow, with free space on every page and no index on a column that changes, so that
-- every update is HOT: it writes no index and its dead version is cleaned by the next reader of the page.
-- A row is born empty and grows to thrice that size with its first beat. A tenth filled leaves room for four beats of every node on the page,
-- 12 s, while somebody's snapshot (an ANALYZE, a dump) keeps the dead ones.
create table mooring.heartbeat (
  node_id int not null,
  -- the name, which never changes, a second time: a beat that looked it up in node would wait for every DDL there
  node text not null,
  session uuid,
  session_at timestamptz,
  beat_at timestamptz constraint heartbeat_beat_at_is_finite check (isfinite(beat_at)),
  lease_ttl interval,
  cpu_pct float8 constraint heartbeat_cpu_pct_is_finite check (cpu_pct >= 0 and cpu_pct < 'infinity'),
  memory_mb float8 constraint heartbeat_memory_mb_is_finite check (memory_mb >= 0 and memory_mb < 'infinity'),
  disk_free_pct float8 constraint heartbeat_disk_free_pct_is_a_percentage check (disk_free_pct between 0 and 100),
  disk_free_bytes bigint constraint heartbeat_disk_free_bytes_is_not_negative check (disk_free_bytes >= 0),
  running int constraint heartbeat_running_is_not_negative check (running >= 0),
  sampled_at timestamptz,
  leaving boolean not null default false,
  role_name text,
  constraint heartbeat_pkey primary key (node_id),
  constraint heartbeat_node_key unique (node),
  constraint heartbeat_node_id_fkey foreign key (node_id) references mooring.node (id) on delete cascade,
  constraint heartbeat_of_a_session_has_a_lease check (session is null or (beat_at is not null and lease_ttl is not null and session_at is not null))
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
comment on table mooring.heartbeat is 'The last sign of life of each node, apart from node so that nothing done to node blocks a beat.';
comment on column mooring.heartbeat.node_id is 'The node.';
comment on column mooring.heartbeat.node is 'Its name, so that a beat reads nothing of table node.';
comment on column mooring.heartbeat.session is 'The agent''s life that holds the name; null before the first one and after a graceful leave.';
comment on column mooring.heartbeat.session_at is 'When that session was registered.';
comment on column mooring.heartbeat.beat_at is 'Database clock at the last beat; never from the client, never backwards.';
comment on column mooring.heartbeat.lease_ttl is 'The lease that the last beat was answered with.';
comment on column mooring.heartbeat.cpu_pct is 'Percent of the whole machine used by the agent and all its processes.';
comment on column mooring.heartbeat.memory_mb is 'MiB resident, agent and all its processes.';
comment on column mooring.heartbeat.disk_free_pct is 'Free share of the disk that holds the agent''s state.';
comment on column mooring.heartbeat.disk_free_bytes is 'Free bytes of that disk.';
comment on column mooring.heartbeat.running is 'How many processes the agent ran at the sample.';
comment on column mooring.heartbeat.sampled_at is 'When the figures were taken; a beat without figures keeps the old ones.';
comment on column mooring.heartbeat.role_name is 'node.role_name a second time: whose beats are taken.';
comment on column mooring.heartbeat.leaving is 'Its agent is stopping: it keeps its lease until everything is gone, and takes no new work.';

create table mooring.deployment (
  id bigint generated by default as identity,
  -- lengths apart from the expressions: to count in one takes ten times as long, in every INSERT. npm takes v1.2.3 and x for versions, and x.tgz for a file
  name text constraint deployment_name_is_a_plain_word check (length(name) <= 63 and name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  labels jsonb not null default '{}' constraint deployment_labels_are_an_object check (jsonb_typeof(labels) = 'object' and octet_length(labels::text) <= 65536 and not jsonb_path_exists(labels, '$.**{32}')),
  type text not null default 'deployment' constraint deployment_type_is_deployment_or_daemon check (type in ('deployment', 'daemon')),
  package_name text constraint deployment_package_name_is_a_registry_name check (length(package_name) <= 214 and package_name ~ '^(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$' and package_name !~* '\.(?:tgz|tar|tar\.gz)$'),
  package_version text not null default 'latest' constraint deployment_package_version_is_exact_or_a_tag check (length(package_version) <= 128 and (package_version ~ '^(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$' or package_version ~ '^[A-Za-z][A-Za-z0-9._-]*$' and package_version !~* '^v[0-9]|^x(?:\.|$)|\.(?:tgz|tar|tar\.gz)$')),
  command text constraint deployment_command_is_not_empty check (length(command) between 1 and 4096),
  args jsonb not null default '[]' constraint deployment_args_is_an_array_of_strings check (jsonb_typeof(args) = 'array' and not jsonb_path_exists(args, 'strict $[*] ? (@.type() != "string")')),
  env jsonb not null default '{}' constraint deployment_env_is_an_object_of_strings check (jsonb_typeof(env) = 'object' and not jsonb_path_exists(env, 'strict $.* ? (@.type() != "string")')),
  enabled boolean not null default true,
  replicas int not null default 1 constraint deployment_replicas_is_between_0_and_10000 check (replicas between 0 and 10000),
  policy text,
  selector jsonb not null default '{}' constraint deployment_selector_is_an_object check (jsonb_typeof(selector) = 'object' and octet_length(selector::text) <= 65536 and not jsonb_path_exists(selector, '$.**{32}')),
  pinned_node text constraint deployment_pinned_node_is_a_node_name check (length(pinned_node) <= 63 and pinned_node ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  needs_urls boolean not null default false,
  on_lost text not null default 'stop' constraint deployment_on_lost_is_stop_or_keep check (on_lost in ('stop', 'keep')),
  handover text not null default 'stop-first' constraint deployment_handover_is_stop_first_or_start_first check (handover in ('stop-first', 'start-first')),
  lease_ttl interval constraint deployment_lease_ttl_is_sane check (lease_ttl between interval '100 ms' and interval '1 hour'),
  stop_grace interval not null default '10 s' constraint deployment_stop_grace_is_sane check (stop_grace between interval '0' and interval '1 hour'),
  generation bigint not null default 1 constraint deployment_generation_is_positive check (generation > 0),
  -- What decides where it may run, interned: claim() looks at each distinct value once, however many rows share it.
  signature uuid not null generated always as (md5(
      coalesce(policy, '-') || chr(31) || selector::text || chr(31) || coalesce(package_name || '@' || package_version, '-') || chr(31)
      || (command is not null)::text || chr(31) || coalesce(pinned_node, '-') || chr(31) || needs_urls::text)::uuid) stored,
  created_at timestamptz not null default now() constraint deployment_created_at_is_finite check (isfinite(created_at)),
  updated_at timestamptz not null default now() constraint deployment_updated_at_is_finite check (isfinite(updated_at)),
  constraint deployment_pkey primary key (id),
  constraint deployment_policy_fkey foreign key (policy) references mooring.policy (name) on update cascade,
  constraint deployment_runs_a_package_or_a_command check (package_name is not null or command is not null),
  -- stop says never two at once
  constraint deployment_start_first_is_only_for_on_lost_keep check (handover = 'stop-first' or on_lost = 'keep'),
  constraint deployment_start_first_is_not_for_daemons check (handover = 'stop-first' or type = 'deployment'),
  constraint deployment_args_are_bounded check (octet_length(args::text) <= 262144),
  constraint deployment_env_is_bounded check (octet_length(env::text) <= 262144),
  constraint deployment_env_names_are_identifiers check (not jsonb_path_exists(env, 'strict $.keyvalue() ? (!(@.key like_regex "^[A-Za-z_][A-Za-z0-9_]*$"))'))
);
-- read by mooring apply and by operators who type names; several null names are fine
create unique index deployment_name_idx on mooring.deployment (name);
comment on table mooring.deployment is 'What shall run: INSERT here and a process starts on some node, DELETE and it ends. Intent only; where it runs is in view placement.';
comment on column mooring.deployment.id is 'Identity.';
comment on column mooring.deployment.name is 'Optional, unique.';
comment on column mooring.deployment.labels is 'Yours, for selecting in the CLI.';
comment on column mooring.deployment.type is 'deployment: replicas instances, failed over. daemon: one instance on every permitted node.';
comment on column mooring.deployment.package_name is 'npm package whose bin or main is run; null when a command alone is run.';
comment on column mooring.deployment.package_version is 'Exact version or dist-tag.';
comment on column mooring.deployment.command is 'Program run instead of the package''s own entry (cwd is the package); needs a node with driver exec.';
comment on column mooring.deployment.args is 'Arguments, an array of strings.';
comment on column mooring.deployment.env is 'Environment, an object of strings. May hold secrets: shown by no view, event or log.';
comment on column mooring.deployment.enabled is 'false: nothing of it runs.';
comment on column mooring.deployment.replicas is 'How many instances (type deployment).';
comment on column mooring.deployment.policy is 'How nodes are compared; null: setting.default_policy.';
comment on column mooring.deployment.selector is 'Labels a node must have.';
comment on column mooring.deployment.pinned_node is 'Only this node may run it.';
comment on column mooring.deployment.needs_urls is 'Only nodes with both base URLs may run it.';
comment on column mooring.deployment.on_lost is 'What a node that is cut off does with it: stop before the lease ends, or keep.';
comment on column mooring.deployment.handover is 'How what runs is moved (drain, reassign, rebalance). stop-first: gone here, then started there. start-first: started there, and stopped here when it runs there; for work of which two copies may run at once, so only with on_lost keep.';
comment on column mooring.deployment.lease_ttl is 'Lease of its assignments; null: setting.lease_ttl.';
comment on column mooring.deployment.stop_grace is 'Time between SIGTERM and SIGKILL when it is stopped in order.';
comment on column mooring.deployment.generation is 'Goes up when what must run changes, and only that restarts a process. Add 1 yourself to restart.';
comment on column mooring.deployment.signature is 'Digest of everything that decides where it may run.';
comment on column mooring.deployment.created_at is 'When the row was made.';
comment on column mooring.deployment.updated_at is 'When the spec was last changed.';

-- assignment: no foreign keys on purpose. deployment_id: the row outlives its deployment until the process is gone. node_id: claiming
-- 100,000 rows would pay 100,000 look-ups; deleting a node takes the placement lock and refuses while the node owns anything.
create table mooring.assignment (
  id bigint generated always as identity,
  deployment_id bigint not null,
  ordinal int constraint assignment_ordinal_is_not_negative check (ordinal >= 0),
  handover text constraint assignment_handover_is_arriving_or_leaving check (handover in ('arriving', 'leaving')),
  signature uuid not null,
  node_id int,
  epoch bigint not null default 0 constraint assignment_epoch_is_not_negative check (epoch >= 0),
  wanted text not null default 'run' constraint assignment_wanted_is_run_or_stop check (wanted in ('run', 'stop')),
  stop_reason text,
  move_to int,
  move_reason text,
  lease_ttl interval,
  handover_failed_at timestamptz,
  handover_error text,
  last_node_id int,
  owner_reason text,
  refused_by int[] not null default '{}',
  waiting_since timestamptz,
  assigned_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- half filled, as the index of ordinals: every change of owner puts a new entry beside the old one, and pages without room for it are searched for dead ones and split
  constraint assignment_pkey primary key (id) with (fillfactor = 50),
  -- read by heartbeat(), assignments_of(), reap(), leave(). And a key only because assert_owner() locks it FOR KEY SHARE: reports and stop orders pass, a change of owner or epoch waits
  constraint assignment_node_id_id_epoch_key unique (node_id, id, epoch),
  constraint assignment_owned_iff_leased check ((node_id is null) = (lease_ttl is null)),
  constraint assignment_owned_iff_assigned check ((node_id is null) = (assigned_at is null)),
  constraint assignment_pending_iff_waiting check ((node_id is null) = (waiting_since is not null)),
  constraint assignment_move_has_a_reason check (move_to is null or move_reason is not null),
  constraint assignment_daemon_always_has_a_node check (ordinal is not null or node_id is not null),
  constraint assignment_copy_of_a_replica_always_has_a_node check (handover is null or ordinal is not null and node_id is not null)
);
-- each replica is there once, and while it is handed over once more (begin_handovers() makes no third). An expression, and no constraint: the columns of a key could not change while a workload
-- is inside assert_owner()
create unique index assignment_deployment_id_ordinal_idx on mooring.assignment (deployment_id, ordinal, (coalesce(handover, ''))) with (fillfactor = 50);
-- read by handover_rows(): the few that are being handed over
create index assignment_handover_idx on mooring.assignment (deployment_id, ordinal) where handover is not null;
-- read by claim(): the queue, apart for each signature, so that work nobody can take costs nothing
create index assignment_pending_idx on mooring.assignment (signature, updated_at, created_at, id) where node_id is null and wanted = 'run';
-- read by moves_under_way(): the few that are on their way
create index assignment_move_idx on mooring.assignment (id) where move_reason is not null;
-- one instance of a daemon on each node
create unique index assignment_daemon_idx on mooring.assignment (deployment_id, node_id) where ordinal is null;
comment on table mooring.assignment is 'One instance of a deployment and the node that owns it. Written by the verbs only; an owned row is never deleted before its process is gone or its lease is over.';
comment on column mooring.assignment.id is 'Identity, never used again.';
comment on column mooring.assignment.deployment_id is 'The deployment; may be gone while its process still has to stop.';
comment on column mooring.assignment.ordinal is '0..replicas-1; null for a daemon.';
comment on column mooring.assignment.handover is 'null: the replica. While start-first work is moved there are two rows of one ordinal: arriving is the successor until it runs, leaving the old copy from then on until it is gone.';
comment on column mooring.assignment.signature is 'The deployment''s signature, apart where nodes refused this assignment.';
comment on column mooring.assignment.node_id is 'Owner; null is pending.';
comment on column mooring.assignment.epoch is 'Fencing token: +1 at every release and every claim.';
comment on column mooring.assignment.wanted is 'What the owner shall do. For one epoch it goes from run to stop and never back.';
comment on column mooring.assignment.stop_reason is 'Why wanted is stop.';
comment on column mooring.assignment.move_to is 'Node it shall go to next, if it still can when its processes are gone; a place there is kept for it.';
comment on column mooring.assignment.move_reason is 'Why it is moved. Set from the order to stop until it was seen running where it went.';
comment on column mooring.assignment.handover_failed_at is 'When a successor of it was given up; nothing is tried again for setting.handover_timeout.';
comment on column mooring.assignment.handover_error is 'Why.';
comment on column mooring.assignment.lease_ttl is 'Copied at the claim, fixed for the epoch.';
comment on column mooring.assignment.last_node_id is 'The owner before.';
comment on column mooring.assignment.owner_reason is 'Why it has the owner it has, or none: the rule of the last change of owner.';
comment on column mooring.assignment.refused_by is 'Nodes whose agent refused it; emptied when the spec changes.';
comment on column mooring.assignment.waiting_since is 'Pending since.';
comment on column mooring.assignment.assigned_at is 'Owned since.';
comment on column mooring.assignment.created_at is 'When the row was made.';
comment on column mooring.assignment.updated_at is 'Place in the queue: set by making the row, an edit of the spec or a refusal; never by claim, report or reap.';

create table mooring.run (
  assignment_id bigint not null,
  deployment_id bigint not null,
  node_id int not null,
  epoch bigint not null,
  generation bigint not null,
  state text not null constraint run_state_is_known check (state in ('installing', 'starting', 'running', 'stopping', 'backoff', 'failed', 'stopped', 'refused', 'lost')),
  pid int,
  restarts int not null default 0,
  exit_code int,
  exit_signal text,
  last_error text,
  last_error_at timestamptz,
  next_start_at timestamptz,
  last_deployed_at timestamptz,
  last_active_at timestamptz not null default now(),
  constraint run_pkey primary key (assignment_id)
-- a host's rows lie together and are all marked lost at once: with room for a second version of each, no index is written
) with (fillfactor = 50);
comment on table mooring.run is 'What an agent last observed of an assignment. History is in event.';
comment on column mooring.run.assignment_id is 'The assignment; no foreign key, the last observation outlives it.';
comment on column mooring.run.deployment_id is 'Its deployment.';
comment on column mooring.run.node_id is 'The node that reported.';
comment on column mooring.run.epoch is 'The epoch it was reported for.';
comment on column mooring.run.generation is 'The generation of the spec that ran.';
comment on column mooring.run.state is 'installing, starting, running, stopping, backoff (will start again), failed (will try again), stopped, refused, lost (its node was reaped).';
comment on column mooring.run.pid is 'Process id on its node.';
comment on column mooring.run.restarts is 'How often it was started again on this node for this epoch.';
comment on column mooring.run.exit_code is 'Of its last exit.';
comment on column mooring.run.exit_signal is 'That ended it.';
comment on column mooring.run.last_error is 'The last thing that went wrong; kept after a later success.';
comment on column mooring.run.last_error_at is 'When.';
comment on column mooring.run.next_start_at is 'When the agent tries again.';
comment on column mooring.run.last_deployed_at is 'When a process was last seen running for the first time of an epoch and generation; a failure never erases it.';
comment on column mooring.run.last_active_at is 'When the agent last reported anything of it.';

-- the default of two columns below
--!include functions/common/actor.sql

create table mooring.event (
  id bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  -- not a regular expression: that would take a third of the time of an insert, and every claim writes an event
  kind text not null constraint event_kind_is_a_word check (length(kind) between 1 and 40 and ltrim(kind, 'abcdefghijklmnopqrstuvwxyz_') = ''),
  assignment_id bigint,
  deployment_id bigint,
  node_id int,
  node text,
  epoch bigint,
  actor text not null default mooring_internal.actor(),
  reason text,
  detail jsonb,
  constraint event_pkey primary key (id)
);
comment on table mooring.event is 'Append-only history: who did what, when and why. Read it with last_events(n).';
comment on column mooring.event.id is 'Identity; the order of writing.';
comment on column mooring.event.at is 'Database clock.';
comment on column mooring.event.kind is 'What happened, in the past tense: claimed, released, reaped, refused, stop_wanted ...';
comment on column mooring.event.assignment_id is 'The assignment concerned.';
comment on column mooring.event.deployment_id is 'The deployment concerned.';
comment on column mooring.event.node_id is 'The node concerned.';
comment on column mooring.event.node is 'Its name, which outlives it.';
comment on column mooring.event.epoch is 'The epoch after it.';
comment on column mooring.event.actor is 'Who did it: the database role, and in brackets the application_name of the connection, which its client chose.';
comment on column mooring.event.reason is 'The rule that led to it, as a sentence.';
comment on column mooring.event.detail is 'Figures.';

-- ownership: who owned what when. Append-only: an epoch has one row, and it ends where the next one begins, so nothing is ever updated and two owners at
-- one instant cannot be said. (An exclusion constraint over ranges says the same for eighteen times the price of the primary key.)
create table mooring.ownership (
  assignment_id bigint not null,
  epoch bigint not null,
  deployment_id bigint not null,
  node_id int,
  node text,
  began_at timestamptz not null,
  actor text not null default mooring_internal.actor(),
  reason text,
  -- not append-only: each epoch comes beside those of its assignment
  constraint ownership_pkey primary key (assignment_id, epoch) with (fillfactor = 70)
);
comment on table mooring.ownership is 'Every epoch of every assignment: its owner, or nobody, from when on and why. Read it with history(assignment) and placement_at(time).';
comment on column mooring.ownership.assignment_id is 'The assignment; no foreign key, history outlives it.';
comment on column mooring.ownership.epoch is 'The epoch; it ends where the next one of the assignment begins.';
comment on column mooring.ownership.deployment_id is 'Its deployment.';
comment on column mooring.ownership.node_id is 'The owner; null: nobody, the assignment was released.';
comment on column mooring.ownership.node is 'Its name, which outlives it.';
comment on column mooring.ownership.began_at is 'Database clock, read under the lock of the row.';
comment on column mooring.ownership.actor is 'Who did it: the database role, and in brackets the application_name of the connection, which its client chose.';
comment on column mooring.ownership.reason is 'The rule that led to it.';

-- node_load: append-only changes of each node's number of assignments. Releasing appends and never waits for anybody; claim() adds them up
-- and folds them. Counting assignments instead takes 33 ms for 90,000 rows, at every claim.
create table mooring_internal.node_load (
  node_id int not null,
  change int not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
comment on table mooring_internal.node_load is 'How many assignments (daemons not counted) each node owns, as changes to be summed.';
comment on column mooring_internal.node_load.node_id is 'The node.';
comment on column mooring_internal.node_load.change is 'How many were added or taken.';

create table mooring_internal.round (
  name text not null,
  due_at timestamptz not null default '-infinity',
  done_at timestamptz not null default '-infinity',
  constraint round_pkey primary key (name)
) with (fillfactor = 50);
comment on table mooring_internal.round is 'The rounds that keep the fleet going when every notification is lost. tick() lets one caller through for each.';
comment on column mooring_internal.round.name is 'reap, place, evict or prune.';
comment on column mooring_internal.round.due_at is 'When tick() starts it next.';
comment on column mooring_internal.round.done_at is 'When it last ended. Old: no worker is alive, and agents run it themselves.';
insert into mooring_internal.round (name) values ('reap'), ('place'), ('evict'), ('prune');

create table mooring_internal.worker (
  id text not null constraint worker_id_is_short check (length(id) between 1 and 200),
  pool_ids text[] not null default '{}',
  seen_at timestamptz not null default clock_timestamp(),
  constraint worker_pkey primary key (id)
) with (fillfactor = 50);
comment on table mooring_internal.worker is 'Worker processes that ticked lately; a dead one''s jobs are unlocked by the others.';
comment on column mooring_internal.worker.id is 'Made by the worker process at its start.';
comment on column mooring_internal.worker.pool_ids is 'graphile-worker pools whose locks are freed when the worker is dead.';
comment on column mooring_internal.worker.seen_at is 'Its last tick.';

create table mooring_internal.pulse (
  only_row boolean not null default true constraint pulse_is_one_row check (only_row),
  pulse_at timestamptz,
  hold_until timestamptz,
  hold_reason text,
  constraint pulse_pkey primary key (only_row)
) with (fillfactor = 50);
comment on table mooring_internal.pulse is 'The scheduler''s own sign of life, and the hold that follows an outage.';
comment on column mooring_internal.pulse.only_row is 'Always true: there is one row.';
comment on column mooring_internal.pulse.pulse_at is 'The last tick of anybody.';
comment on column mooring_internal.pulse.hold_until is 'Until then nothing is reaped, claimed or newly started.';
comment on column mooring_internal.pulse.hold_reason is 'What was noticed.';
insert into mooring_internal.pulse default values;

-- reap_pause: apart from pulse, which notice_outage() and every tick write.
create table mooring_internal.reap_pause (
  only_row boolean not null default true constraint reap_pause_is_one_row check (only_row),
  paused_at timestamptz,
  reason text,
  resumed_at timestamptz,
  resumed_by name,
  constraint reap_pause_pkey primary key (only_row),
  constraint reap_pause_has_a_reason check ((paused_at is null) = (reason is null)),
  constraint reap_pause_is_resumed_by_somebody check ((resumed_at is null) = (resumed_by is null)),
  constraint reap_pause_is_resumed_only_when_paused check (resumed_at is null or paused_at is not null)
) with (fillfactor = 50);
comment on table mooring_internal.reap_pause is 'Whether too many nodes fell silent at once for reap() to believe it; see setting.reap_pause_share.';
comment on column mooring_internal.reap_pause.only_row is 'Always true: there is one row.';
comment on column mooring_internal.reap_pause.paused_at is 'Since when so many nodes are silent; null: they are not.';
comment on column mooring_internal.reap_pause.reason is 'How many of how many.';
comment on column mooring_internal.reap_pause.resumed_at is 'An operator believes it: reap() goes on in spite of it, until enough nodes are back.';
comment on column mooring_internal.reap_pause.resumed_by is 'Who.';
insert into mooring_internal.reap_pause default values;

-- outage_marker: unlogged on purpose. Crash recovery and promotion empty it, a clean restart does not.
create unlogged table mooring_internal.outage_marker (
  only_row boolean not null default true constraint outage_marker_is_one_row check (only_row),
  database_oid oid not null,
  system_identifier bigint not null,
  constraint outage_marker_pkey primary key (only_row)
);
comment on table mooring_internal.outage_marker is 'Empty after a crash or a promotion, foreign after a restore: then a hold begins.';
comment on column mooring_internal.outage_marker.only_row is 'Always true: there is one row.';
comment on column mooring_internal.outage_marker.database_oid is 'The database it was written in.';
comment on column mooring_internal.outage_marker.system_identifier is 'The cluster it was written in.';

-- log_request: a slice of a log on its way from a host to whoever asked. Unlogged: what a workload wrote is in no backup of the write-ahead log and on no replica,
-- and after a crash one asks again. No foreign keys: a row lives for a minute.
create unlogged table mooring_internal.log_request (
  id uuid not null default gen_random_uuid(),
  assignment_id bigint not null,
  node_id int not null,
  requested_by name not null default session_user,
  requested_at timestamptz not null default clock_timestamp(),
  hinted_at timestamptz not null default clock_timestamp(),
  from_byte bigint,
  tail_lines int constraint log_request_tail_lines_is_not_negative check (tail_lines >= 0),
  after text constraint log_request_after_is_short check (length(after) <= 100),
  max_bytes int not null constraint log_request_max_bytes_is_at_most_128_kib check (max_bytes between 1 and 131072),
  wait interval not null default '0' constraint log_request_wait_is_short check (wait between interval '0' and interval '30 s'),
  answered_at timestamptz,
  start_byte bigint,
  data bytea constraint log_request_data_is_within_what_was_asked check (octet_length(data) <= max_bytes),
  next text constraint log_request_next_is_short check (length(next) <= 100),
  more boolean,
  size bigint,
  error text constraint log_request_error_is_short check (length(error) <= 2000),
  constraint log_request_pkey primary key (id),
  constraint log_request_says_where_to_begin check (num_nonnulls(from_byte, tail_lines, after) = 1)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table mooring_internal.log_request is 'Slices of logs that were asked for and are not read yet. Made by request_log(), answered by the node''s agent, deleted by read_log(), and a minute later by whoever asks next.';
comment on column mooring_internal.log_request.id is 'What read_log() is asked for. Random, so that after a crash of the database no late answer meets another request.';
comment on column mooring_internal.log_request.assignment_id is 'Whose log.';
comment on column mooring_internal.log_request.node_id is 'On which node.';
comment on column mooring_internal.log_request.requested_by is 'The login that asked: nobody else reads the answer, but the owner of the schema.';
comment on column mooring_internal.log_request.requested_at is 'When.';
comment on column mooring_internal.log_request.hinted_at is 'When the agent was last told to look here; where it has looked, until when it may wait.';
comment on column mooring_internal.log_request.from_byte is 'Begin at this byte of all that is kept; negative: so many before the end.';
comment on column mooring_internal.log_request.tail_lines is 'Begin so many lines before the end.';
comment on column mooring_internal.log_request.after is 'Begin where an earlier answer ended, wherever rotation has moved it.';
comment on column mooring_internal.log_request.max_bytes is 'Most that is answered.';
comment on column mooring_internal.log_request.wait is 'Where there is nothing yet, the agent waits so long before it says so.';
comment on column mooring_internal.log_request.answered_at is 'Null: not yet.';
comment on column mooring_internal.log_request.start_byte is 'Where data begins in all that is kept.';
comment on column mooring_internal.log_request.data is 'The slice, as it was written: may begin and end inside a line or a character.';
comment on column mooring_internal.log_request.next is 'For after => of the next request.';
comment on column mooring_internal.log_request.more is 'There was more when it was read.';
comment on column mooring_internal.log_request.size is 'How much is kept, rotated parts included, uncompressed. 0 with an error: there is no log.';
comment on column mooring_internal.log_request.error is 'Why there is no slice.';

create type mooring.node_state as (
  id int,
  name text,
  weight float8,
  max_assignments int,
  assigned int,
  running int,
  cpu_pct float8,
  memory_mb float8,
  disk_free_pct float8
);
comment on type mooring.node_state is 'What a policy is told of a node: its assignments now (those planned in this call included) and its last sample.';

create type mooring_internal.placement_class as (
  policy text,
  signatures uuid[],
  node_ids int[]
);
comment on type mooring_internal.placement_class is 'Pending work that may go to the same nodes under the same policy.';

--!include all.sql

-- an empty marker means an outage from now on
select mooring_internal.write_outage_marker();

-- graphile-worker keeps the names of tasks in a table with a unique key, and the first job of a name inserts it: without these, the first
-- insert of a deployment ever would make all others wait until its transaction ends
do $$
declare
  task text;
begin
  foreach task in array '{place,reap,evict,prune}'::text[] loop
    perform graphile_worker.add_job(task, job_key => 'make ' || task || ' known');
    perform graphile_worker.remove_job('make ' || task || ' known');
  end loop;
end;
$$;

-- every job that is added takes a number for the name of its task, known or not, and the numbers are of type int: at a hundred jobs a second there are none left after
-- eight months. Beginning again at 1 harms nobody: the name is known, and the insert that took the number does nothing
do $$
begin
  execute format('alter sequence %s cycle', pg_get_serial_sequence('graphile_worker._private_tasks', 'id'));
exception when insufficient_privilege then
  raise warning 'mooring: the sequence of graphile_worker._private_tasks is somebody else''s and ends after 2^31 jobs: have its owner say alter sequence % cycle', pg_get_serial_sequence('graphile_worker._private_tasks', 'id');
end;
$$;
