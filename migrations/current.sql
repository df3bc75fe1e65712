-- Everything that changes state. Definitions that are harmless to re-run live in ../sql; the end of
-- this file includes them. Five nouns have five writers. A user writes deployment, the scheduler
-- writes assignment, a beat writes heartbeat, a report writes run, and every verb appends to event.
-- No writer touches the row of another. So an edit never blocks a beat, and a beat never undoes an
-- edit.

create schema mooring;
comment on schema mooring is
  'Mooring places long-running processes on hosts, and Postgres is its only control plane. Start '
  'with select * from mooring.help. Then look at mooring.placement, mooring.fleet and \d+ '
  'mooring.deployment.';

-- Schema mooring holds what people use. This schema holds what verbs and views are made of, and
-- only its owner has rights on it. A third one, mooring_jobs, belongs to graphile-worker and is
-- made before this file runs.
create schema mooring_internal;
comment on schema mooring_internal is
  'What the verbs and views of Mooring are made of: helper functions, trigger functions and the '
  'tables of the scheduler. Do not call or write it by hand: it changes without notice. Schema '
  'mooring holds what people use.';

-- migration: written by `mooring migrate`, in the transaction of each file.
create table mooring_internal.migration (
  filename text not null,
  hash text not null,
  migrated_at timestamptz not null default clock_timestamp(),
  constraint migration_pkey primary key (filename)
);
comment on table mooring_internal.migration is
  'The migrations this database has had. mooring migrate runs those that are missing, in order.';
comment on column mooring_internal.migration.filename is 'Its number, as 000001.sql.';
comment on column mooring_internal.migration.hash is
  'Of its text and all before it. A migration never changes after its release.';
comment on column mooring_internal.migration.migrated_at is 'When it ran here.';

-- policy: how nodes are compared. A policy is a SQL function registered by name; see
-- docs/policies.md.
create table mooring.policy (
  name text not null
    constraint policy_name_is_a_word check (length(name) <= 63 and name ~ '^[a-z][a-z0-9_]*$'),
  kind text not null constraint policy_kind_is_known check (kind in ('load', 'affinity', 'none')),
  cost_function text
    constraint policy_cost_function_is_a_plain_name
    check (cost_function ~ '^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$'),
  description text not null,
  fallback text,
  constraint policy_pkey primary key (name),
  constraint policy_fallback_fkey
    foreign key (fallback) references mooring.policy (name) on update cascade,
  constraint policy_compares_by_a_cost_function check ((kind = 'none') = (cost_function is null))
);
comment on table mooring.policy is
  'How nodes are compared when work is placed. One row per policy; deployment.policy and '
  'setting.default_policy name one.';
comment on column mooring.policy.name is 'What deployment.policy says.';
comment on column mooring.policy.kind is
  'load: the function gives the cost of the k-th further assignment on a node, which never falls '
  'with k. affinity: it gives the cost of one assignment on one node. none: nothing is placed '
  'automatically.';
comment on column mooring.policy.cost_function is
  'load: schema.function(node mooring.node_state, k int) returns float8. affinity: '
  'schema.function(node mooring.node_state, assignment mooring.assignment) returns float8. Lower '
  'is better. Null means unknown and sorts last. The result is divided by weight / 100 of the '
  'node.';
comment on column mooring.policy.description is 'One sentence for explain and the CLI.';
comment on column mooring.policy.fallback is
  'The policy that decides when the cost of no node is known. Null: deployment_count.';

insert into mooring.policy (name, kind, cost_function, fallback, description) values
  ('deployment_count', 'load', 'mooring.policy_deployment_count', null, 'fewest assigned first'),
  ('resource_usage', 'load', 'mooring.policy_resource_usage', null,
    'least cpu and memory used first, by setting.cpu_weight and memory_weight'),
  ('hash', 'affinity', 'mooring.policy_hash', null,
    'each assignment where its hash with the node says, in proportion to the weights'),
  ('disk_free', 'load', 'mooring.policy_disk_free', 'hash', 'most free disk first'),
  ('none', 'none', null, null, 'nothing is placed automatically');

create table mooring.setting (
  only_row boolean not null default true constraint setting_is_one_row check (only_row),
  beat_interval interval not null default '3 s'
    constraint setting_beat_interval_is_sane
    check (beat_interval between interval '20 ms' and interval '10 min'),
  lease_ttl interval not null default '12 s'
    constraint setting_lease_ttl_is_sane
    check (lease_ttl between interval '100 ms' and interval '1 hour'),
  reap_margin interval not null default '3 s'
    constraint setting_reap_margin_is_sane
    check (reap_margin between interval '50 ms' and interval '10 min'),
  round_interval interval not null default '2 s'
    constraint setting_round_interval_is_sane
    check (round_interval between interval '50 ms' and interval '10 min'),
  evict_interval interval not null default '30 s'
    constraint setting_evict_interval_is_sane
    check (evict_interval between interval '50 ms' and interval '1 day'),
  prune_interval interval not null default '10 min'
    constraint setting_prune_interval_is_sane
    check (prune_interval between interval '50 ms' and interval '1 day'),
  default_policy text not null default 'deployment_count',
  cpu_weight float8 not null default 0.5
    constraint setting_cpu_weight_is_between_0_and_a_million
    check (cpu_weight between 0 and 1000000),
  memory_weight float8 not null default 0.5
    constraint setting_memory_weight_is_between_0_and_a_million
    check (memory_weight between 0 and 1000000),
  disk_free_min_pct float8 not null default 15
    constraint setting_disk_free_min_pct_is_a_percentage
    check (disk_free_min_pct between 0 and 100),
  sticky_slack float8 not null default 1
    constraint setting_sticky_slack_is_between_0_and_a_million
    check (sticky_slack between 0 and 1000000),
  claim_window int not null default 10000
    constraint setting_claim_window_is_sane check (claim_window between 1 and 100000),
  placement_lock_timeout interval not null default '5 s'
    constraint setting_placement_lock_timeout_is_sane
    check (placement_lock_timeout between interval '10 ms' and interval '10 min'),
  reap_pause_share float8 default 0.5
    constraint setting_reap_pause_share_is_a_share check (reap_pause_share between 0 and 1),
  reap_pause_min_nodes int not null default 5
    constraint setting_reap_pause_min_nodes_is_positive check (reap_pause_min_nodes >= 1),
  reap_pause_timeout interval default '10 min'
    constraint setting_reap_pause_timeout_is_sane
    check (reap_pause_timeout between interval '0' and interval '1 year'),
  drain_max_moves int not null default 5
    constraint setting_drain_max_moves_is_sane check (drain_max_moves between 1 and 10000),
  handover_settle interval not null default '2 s'
    constraint setting_handover_settle_is_sane
    check (handover_settle between interval '0' and interval '1 hour'),
  handover_timeout interval not null default '5 min'
    constraint setting_handover_timeout_is_sane
    check (handover_timeout between interval '100 ms' and interval '1 day'),
  rebalance_cooldown interval not null default '10 min'
    constraint setting_rebalance_cooldown_is_sane
    check (rebalance_cooldown between interval '0' and interval '1 day'),
  trouble_memory interval default '10 min'
    constraint setting_trouble_memory_is_sane
    check (trouble_memory between interval '1 s' and interval '1 day'),
  move_after int default 5 constraint setting_move_after_is_positive check (move_after > 0),
  return_wait interval not null default '3 s'
    constraint setting_return_wait_is_sane
    check (return_wait between interval '0' and interval '1 day'),
  event_retention interval not null default '30 days'
    constraint setting_event_retention_is_sane
    check (event_retention between interval '1 min' and interval '100 years'),
  agents_may_add_nodes boolean not null default true,
  constraint setting_pkey primary key (only_row),
  constraint setting_default_policy_fkey
    foreign key (default_policy) references mooring.policy (name) on update cascade,
  constraint setting_three_beats_fit_into_a_lease check (3 * beat_interval <= lease_ttl),
  constraint setting_some_weight_is_positive check (cpu_weight + memory_weight > 0)
);
comment on table mooring.setting is
  'One row of settings for the whole fleet. An edit here never shortens a lease that was already '
  'granted.';
comment on column mooring.setting.only_row is 'Always true: there is one row.';
comment on column mooring.setting.beat_interval is
  'How often an agent beats. Two lost beats are harmless by default.';
comment on column mooring.setting.lease_ttl is
  'How long a confirmed heartbeat lets a node run its assignments.';
comment on column mooring.setting.reap_margin is
  'Time between the end of a lease and the reap of its work. It covers clock drift, an unnoticed '
  'clock step and the last SIGKILL.';
comment on column mooring.setting.round_interval is
  'How often the reap and place rounds run without any notification. A sixth of the lease applies '
  'where that is shorter.';
comment on column mooring.setting.evict_interval is
  'How often the evict round looks for work that its node may no longer run. Edits of nodes and '
  'deployments start it at once.';
comment on column mooring.setting.prune_interval is 'How often old events are deleted.';
comment on column mooring.setting.default_policy is 'The policy of deployments that name none.';
comment on column mooring.setting.cpu_weight is
  'Share of cpu in policy resource_usage. The two weights are normalised to 1.';
comment on column mooring.setting.memory_weight is
  'Share of memory in policy resource_usage. The two weights are normalised to 1.';
comment on column mooring.setting.disk_free_min_pct is
  'A node that reports less free disk than this takes no new work.';
comment on column mooring.setting.sticky_slack is
  'Pending work returns to its last node when that node costs at most this much more than the '
  'dearest place the same claim takes. The unit is the cost that explain() shows: assignments for '
  'deployment_count, percent for resource_usage and disk_free.';
comment on column mooring.setting.claim_window is
  'How many pending assignments are placed at once: one window, one UPDATE.';
comment on column mooring.setting.placement_lock_timeout is
  'How long claim() waits for another placement. The server also ends a transaction in which a '
  'verb took locks when it is idle for so long.';
comment on column mooring.setting.reap_pause_share is
  'Reaping pauses when more than this share of the nodes with a session is silent, because that '
  'is more often a network than hosts. Only nodes that own work count as silent. Null: never.';
comment on column mooring.setting.reap_pause_min_nodes is
  'Reaping never pauses in a fleet of fewer nodes.';
comment on column mooring.setting.reap_pause_timeout is
  'A pause of reaping ends after so long at the latest, because no more can be learned by waiting. '
  'It ends before when enough nodes return or resume_reaping() is called. Null: no time limit.';
comment on column mooring.setting.drain_max_moves is
  'How many assignments of a draining node move at once. An argument of drain_node() overrides '
  'it.';
comment on column mooring.setting.handover_settle is
  'How long a successor of start-first work has to run before its predecessor is stopped. '
  'Processes that fail at once fail by then.';
comment on column mooring.setting.handover_timeout is
  'How long a successor may take until it runs. After that the handover fails and the predecessor '
  'runs on. The next attempt comes after the same time again.';
comment on column mooring.setting.rebalance_cooldown is
  'rebalance() does not move what came to its node less than this ago.';
comment on column mooring.setting.trouble_memory is
  'A node on which several deployments failed within this time, or that was lost and is back for '
  'less, gets less new work. Null: never.';
comment on column mooring.setting.move_after is
  'An instance that failed so often on a node goes to another one, three times at most. Null: it '
  'stays.';
comment on column mooring.setting.return_wait is
  'After an absence of the whole fleet, work that ran before waits so long for the other nodes, '
  'counted from the first one that returns. 0: the first node takes all of it.';
comment on column mooring.setting.event_retention is
  'Events older than this are deleted, and so are ownerships that ended before.';
comment on column mooring.setting.agents_may_add_nodes is
  'false: the role of an agent registers only names that an operator has bound to it '
  '(node.role_name). So a stolen login cannot add nodes.';
insert into mooring.setting default values;

create table mooring.node (
  id int generated by default as identity,
  name text not null
    constraint node_name_is_a_plain_word
    check (length(name) <= 63 and name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  enabled boolean not null default true,
  draining_since timestamptz,
  drain_to int,
  drain_max_moves int constraint node_drain_max_moves_is_positive check (drain_max_moves > 0),
  drain_deadline_at timestamptz,
  drain_total int,
  drained_at timestamptz,
  held_until timestamptz,
  weight float8 not null default 100
    constraint node_weight_is_between_a_thousandth_and_a_million
    check (weight between 0.001 and 1000000),
  -- depth: comparing values that nest thousands deep overflows the stack, in every claim
  labels jsonb not null default '{}'
    constraint node_labels_are_an_object
    check (
      jsonb_typeof(labels) = 'object'
      and octet_length(labels::text) <= 65536
      and not jsonb_path_exists(labels, '$.**{32}')
    ),
  max_assignments int constraint node_max_assignments_is_not_negative check (max_assignments >= 0),
  trusts text constraint node_trusts_is_short check (length(trusts) <= 1000),
  drivers text[] not null default '{npm}'
    constraint node_drivers_are_known check (drivers <@ '{npm,exec}'),
  agent_base_url text
    constraint node_agent_base_url_is_short check (length(agent_base_url) <= 2048),
  gateway_base_url text
    constraint node_gateway_base_url_is_short check (length(gateway_base_url) <= 2048),
  role_name name,
  version text,
  containment text
    constraint node_containment_is_known
    check (containment in ('pid-namespace', 'pdeathsig', 'process-group')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint node_pkey primary key (id),
  constraint node_name_key unique (name),
  constraint node_that_does_not_drain_has_no_drain
    check (
      draining_since is not null
      or num_nonnulls(drain_to, drain_max_moves, drain_deadline_at, drain_total, drained_at) = 0
    )
);
-- read by every claim: is there a drain at all?
create index node_draining_idx on mooring.node (id) where draining_since is not null;
comment on table mooring.node is
  'A host that runs an agent. An agent registers its node. Operators edit enabled, weight, labels '
  'and max_assignments.';
comment on column mooring.node.id is
  'Identity. The agent of the node listens on channel mooring_node_<id>.';
comment on column mooring.node.name is 'Unique and never changed.';
comment on column mooring.node.enabled is 'false: no new work; what runs stays.';
comment on column mooring.node.draining_since is
  'Not null: no new work, and what runs is moved away. See drain_node() and view drain_progress.';
comment on column mooring.node.drain_to is
  'The node to which a drain moves everything. Null: wherever each assignment may run.';
comment on column mooring.node.drain_max_moves is
  'How many of its assignments move at once. Null: setting.drain_max_moves.';
comment on column mooring.node.drain_deadline_at is
  'From then on a drain stops what is left, even if no other node may run it.';
comment on column mooring.node.drain_total is 'What it owned when the drain began.';
comment on column mooring.node.drained_at is 'When the drain had nothing left to move.';
comment on column mooring.node.held_until is
  'Until then its work waits for it, and it gets no new work. See hold_node().';
comment on column mooring.node.weight is
  'Capacity relative to 100: a node of 200 takes twice as much.';
comment on column mooring.node.labels is
  'A node matches deployment.selector when its labels contain it. Booleans and numbers are '
  'compared as texts.';
comment on column mooring.node.max_assignments is
  'At most so many assignments, daemons not counted. Null: no limit.';
comment on column mooring.node.trusts is
  'Regular expression on name@version: which packages the node runs. null: none.';
comment on column mooring.node.drivers is 'npm: runs npm packages. exec: runs custom commands.';
comment on column mooring.node.agent_base_url is
  'Where the agent can be reached, for deployments that need it.';
comment on column mooring.node.gateway_base_url is
  'Where the workloads of the node can be reached.';
comment on column mooring.node.role_name is
  'The database role that first registered the node. Only this role and the owner of the schema '
  'act for the node. When an operator changes it, the session of the old role is refused from its '
  'next beat on.';
comment on column mooring.node.version is 'Version of the agent that registered last.';
comment on column mooring.node.containment is
  'What ends a workload when its agent and warden are both gone or stopped. pid-namespace: '
  'everything it started ends by the end of the lease. pdeathsig: its own process ends by then, '
  'and what left its process group may live on. process-group: an unguarded timer ends its '
  'process group, and what left the group may live on. Null: not reported.';
comment on column mooring.node.created_at is 'When the row was made.';
comment on column mooring.node.updated_at is
  'When the row was last changed. Heartbeats do not count.';

-- heartbeat: its rows are only updated, many times a second. The table is narrow, every page has
-- free space, and no changing column is indexed. So every update is HOT: it writes no index, and
-- the next reader of the page cleans the dead version. A row begins empty and grows to three times
-- its size with the first beat. Pages that are a tenth full have room for four beats (12 s) of each
-- node while a snapshot (ANALYZE, a dump) keeps dead versions.
create table mooring.heartbeat (
  node_id int not null,
  -- the name again, which never changes: a beat that read it from node would wait for any DDL there
  node text not null,
  session uuid,
  session_at timestamptz,
  beat_at timestamptz constraint heartbeat_beat_at_is_finite check (isfinite(beat_at)),
  lease_ttl interval,
  cpu_pct float8
    constraint heartbeat_cpu_pct_is_finite check (cpu_pct >= 0 and cpu_pct < 'infinity'),
  memory_mb float8
    constraint heartbeat_memory_mb_is_finite check (memory_mb >= 0 and memory_mb < 'infinity'),
  disk_free_pct float8
    constraint heartbeat_disk_free_pct_is_a_percentage check (disk_free_pct between 0 and 100),
  disk_free_bytes bigint
    constraint heartbeat_disk_free_bytes_is_not_negative check (disk_free_bytes >= 0),
  running int constraint heartbeat_running_is_not_negative check (running >= 0),
  sampled_at timestamptz,
  leaving boolean not null default false,
  left_at timestamptz,
  reaped_at timestamptz,
  role_name text,
  constraint heartbeat_pkey primary key (node_id),
  constraint heartbeat_node_key unique (node),
  constraint heartbeat_node_id_fkey
    foreign key (node_id) references mooring.node (id) on delete cascade,
  constraint heartbeat_of_a_session_has_a_lease
    check (
      session is null
      or (beat_at is not null and lease_ttl is not null and session_at is not null)
    )
) with (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
comment on table mooring.heartbeat is
  'The last beat of each node. It is apart from table node, so that nothing done to node blocks a '
  'beat.';
comment on column mooring.heartbeat.node_id is 'The node.';
comment on column mooring.heartbeat.node is 'Its name, so that a beat does not read table node.';
comment on column mooring.heartbeat.session is
  'The session that holds the name. Null before the first one and after a graceful leave.';
comment on column mooring.heartbeat.session_at is 'When that session was registered.';
comment on column mooring.heartbeat.beat_at is
  'Database clock at the last beat. It never comes from a client and never goes backwards.';
comment on column mooring.heartbeat.lease_ttl is 'The lease that the last beat was answered with.';
comment on column mooring.heartbeat.cpu_pct is
  'Percent of the whole machine used by the agent and all its processes.';
comment on column mooring.heartbeat.memory_mb is 'MiB resident, agent and all its processes.';
comment on column mooring.heartbeat.disk_free_pct is
  'Free share of the disk that holds the agent''s state.';
comment on column mooring.heartbeat.disk_free_bytes is 'Free bytes of that disk.';
comment on column mooring.heartbeat.running is 'How many processes the agent ran at the sample.';
comment on column mooring.heartbeat.sampled_at is
  'When the figures were measured. A beat without figures keeps the old ones.';
comment on column mooring.heartbeat.left_at is
  'When its last agent left in order; null while it has one, and after one that fell silent.';
comment on column mooring.heartbeat.reaped_at is 'When reap() last freed work of the node.';
comment on column mooring.heartbeat.role_name is
  'The same as node.role_name: only this role may beat for the node.';
comment on column mooring.heartbeat.leaving is
  'Its agent is stopping. It keeps its lease until every process is gone, and it gets no new '
  'work.';

create table mooring.deployment (
  id bigint generated by default as identity,
  -- length() is apart from the expressions: counting in one takes ten times as long, in every
  -- INSERT. npm reads v1.2.3 and x as versions, and x.tgz as a file.
  name text
    constraint deployment_name_is_a_plain_word
    check (length(name) <= 63 and name ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  labels jsonb not null default '{}'
    constraint deployment_labels_are_an_object
    check (
      jsonb_typeof(labels) = 'object'
      and octet_length(labels::text) <= 65536
      and not jsonb_path_exists(labels, '$.**{32}')
    ),
  type text not null default 'deployment'
    constraint deployment_type_is_deployment_or_daemon check (type in ('deployment', 'daemon')),
  package_name text
    constraint deployment_package_name_is_a_registry_name
    check (
      length(package_name) <= 214
      and package_name ~ '^(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$'
      and package_name !~* '\.(?:tgz|tar|tar\.gz)$'
    ),
  package_version text not null default 'latest'
    constraint deployment_package_version_is_exact_or_a_tag
    check (
      length(package_version) <= 128
      and package_version !~* '\.(?:tgz|tar|tar\.gz)$'
      and (
        -- an exact version, by the expression of semver.org
        package_version ~ ('^(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)'
          '(?:-(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)'
          '(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?'
          '(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$')
        or (
          package_version ~ '^[A-Za-z][A-Za-z0-9._-]*$'
          and package_version !~* '^v[0-9]|^x(?:\.|$)'
        )
      )
    ),
  command text
    constraint deployment_command_is_not_empty check (length(command) between 1 and 4096),
  args jsonb not null default '[]'
    constraint deployment_args_is_an_array_of_strings
    check (
      jsonb_typeof(args) = 'array'
      and not jsonb_path_exists(args, 'strict $[*] ? (@.type() != "string")')
    ),
  env jsonb not null default '{}'
    constraint deployment_env_is_an_object_of_strings
    check (
      jsonb_typeof(env) = 'object'
      and not jsonb_path_exists(env, 'strict $.* ? (@.type() != "string")')
    ),
  enabled boolean not null default true,
  replicas int not null default 1
    constraint deployment_replicas_is_between_0_and_10000 check (replicas between 0 and 10000),
  policy text,
  selector jsonb not null default '{}'
    constraint deployment_selector_is_an_object
    check (
      jsonb_typeof(selector) = 'object'
      and octet_length(selector::text) <= 65536
      and not jsonb_path_exists(selector, '$.**{32}')
    ),
  pinned_node text
    constraint deployment_pinned_node_is_a_node_name
    check (length(pinned_node) <= 63 and pinned_node ~ '^[A-Za-z0-9][A-Za-z0-9._-]*$'),
  needs_urls boolean not null default false,
  on_lost text not null default 'stop'
    constraint deployment_on_lost_is_stop_or_keep check (on_lost in ('stop', 'keep')),
  handover text not null default 'stop-first'
    constraint deployment_handover_is_stop_first_or_start_first
    check (handover in ('stop-first', 'start-first')),
  lease_ttl interval
    constraint deployment_lease_ttl_is_sane
    check (lease_ttl between interval '100 ms' and interval '1 hour'),
  stop_grace interval not null default '10 s'
    constraint deployment_stop_grace_is_sane
    check (stop_grace between interval '0' and interval '1 hour'),
  generation bigint not null default 1
    constraint deployment_generation_is_positive check (generation > 0),
  -- Rows with one signature may run on the same nodes: claim() looks at each distinct value once.
  signature uuid not null generated always as (md5(
      coalesce(policy, '-') || chr(31) || selector::text || chr(31)
      || coalesce(package_name || '@' || package_version, '-') || chr(31)
      -- a command, or a variable that decides which code runs: mooring_internal.code_variables()
      || (command is not null or coalesce(env @? (
        '$.keyvalue().key ? (@ like_regex "^('
          'LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|'
          'HOSTALIASES|RESOLV_HOST_CONF|RES_OPTIONS|LOCALDOMAIN|MALLOC_TRACE|PATH|HOME|'
          'SHELL|ENV|BASH_.*|SHELLOPTS|BASHOPTS|IFS|PS4|PROMPT_COMMAND|CDPATH|ZDOTDIR|'
          'XDG_(CONFIG|DATA)_.*|EDITOR|VISUAL|PAGER|BROWSER|LESSOPEN|LESSCLOSE|'
          'TERMINFO.*|'
          'NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED|ICU_DATA)|'
          'NODE_(COMPILE_CACHE|V8_COVERAGE|REDIRECT_WARNINGS)|'
          'NODE_(REPL_|CHANNEL_|PRESERVE_SYMLINKS|USE_).*|TS_NODE_.*|'
          'ELECTRON_RUN_AS_NODE|NPM_CONFIG_.*|YARN_.*|PNPM_HOME|COREPACK_.*|'
          'PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|USERBASE|PYCACHEPREFIX)|'
          'PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|'
          'JDK_JAVA_OPTIONS|JAVA_HOME|CLASSPATH|LUA_.*|PHPRC|PHP_INI_SCAN_DIR|'
          'DOTNET_(STARTUP_HOOKS|ROOT.*|ADDITIONAL_DEPS|SHARED_STORE)|CORECLR_.*|'
          'COR_(ENABLE_PROFILING|PROFILER.*)|'
          'GIT_(SSH.*|ASKPASS|EXEC_PATH|TEMPLATE_DIR|CONFIG.*|DIR|WORK_TREE)|'
          'GIT_(EDITOR|PAGER|PROXY_COMMAND|EXTERNAL_DIFF)|SSH_(ASKPASS.*|AUTH_SOCK)|'
          'OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|(CURL|REQUESTS|AWS)_CA_BUNDLE'
          ')$" flag "i")'), false))::text
      || chr(31) || coalesce(pinned_node, '-') || chr(31)
      || needs_urls::text)::uuid) stored,
  created_at timestamptz not null default now()
    constraint deployment_created_at_is_finite check (isfinite(created_at)),
  updated_at timestamptz not null default now()
    constraint deployment_updated_at_is_finite check (isfinite(updated_at)),
  constraint deployment_pkey primary key (id),
  constraint deployment_policy_fkey
    foreign key (policy) references mooring.policy (name) on update cascade,
  constraint deployment_runs_a_package_or_a_command
    check (package_name is not null or command is not null),
  -- stop says never two at once
  constraint deployment_start_first_is_only_for_on_lost_keep
    check (handover = 'stop-first' or on_lost = 'keep'),
  constraint deployment_start_first_is_not_for_daemons
    check (handover = 'stop-first' or type = 'deployment'),
  constraint deployment_args_are_bounded check (octet_length(args::text) <= 262144),
  constraint deployment_env_is_bounded check (octet_length(env::text) <= 262144),
  constraint deployment_env_names_are_identifiers
    check (not jsonb_path_exists(env,
      'strict $.keyvalue() ? (!(@.key like_regex "^[A-Za-z_][A-Za-z0-9_]*$"))'))
);
-- read by mooring apply and by operators who type names; several null names are fine
create unique index deployment_name_idx on mooring.deployment (name);
comment on table mooring.deployment is
  'What shall run. An INSERT starts a process on some node, and a DELETE ends it. The row is '
  'intent only: view placement shows where it runs.';
comment on column mooring.deployment.id is 'Identity.';
comment on column mooring.deployment.name is 'Optional, unique.';
comment on column mooring.deployment.labels is 'Yours, for selecting in the CLI.';
comment on column mooring.deployment.type is
  'deployment: replicas instances, failed over. daemon: one instance on every permitted node.';
comment on column mooring.deployment.package_name is
  'npm package whose bin or main is run. Null when only a command is run.';
comment on column mooring.deployment.package_version is 'Exact version or dist-tag.';
comment on column mooring.deployment.command is
  'Program to run instead of the entry point of the package. Its working directory is the '
  'package. It needs a node with driver exec.';
comment on column mooring.deployment.args is 'Arguments, an array of strings.';
comment on column mooring.deployment.env is
  'Environment, an object of strings. It may hold secrets, so no view, event or log shows it.';
comment on column mooring.deployment.enabled is 'false: nothing of it runs.';
comment on column mooring.deployment.replicas is 'How many instances (type deployment).';
comment on column mooring.deployment.policy is
  'How nodes are compared. Null: setting.default_policy.';
comment on column mooring.deployment.selector is 'Labels a node must have.';
comment on column mooring.deployment.pinned_node is 'Only this node may run it.';
comment on column mooring.deployment.needs_urls is 'Only nodes with both base URLs may run it.';
comment on column mooring.deployment.on_lost is
  'What a node that is cut off does: stop it before the lease ends, or keep it running.';
comment on column mooring.deployment.handover is
  'How a running instance is moved (drain, reassign, rebalance). stop-first: it ends here, then '
  'it starts there. start-first: a successor starts there first, and the predecessor stops when '
  'the successor runs. start-first needs on_lost keep, because two instances run at once.';
comment on column mooring.deployment.lease_ttl is
  'Lease of its assignments. Null: setting.lease_ttl.';
comment on column mooring.deployment.stop_grace is
  'Time between SIGTERM and SIGKILL of an ordered stop.';
comment on column mooring.deployment.generation is
  'It goes up when what must run changes, and only that restarts a process. Add 1 to restart.';
comment on column mooring.deployment.signature is
  'Digest of everything that decides where it may run.';
comment on column mooring.deployment.created_at is 'When the row was made.';
comment on column mooring.deployment.updated_at is 'When the spec was last changed.';

-- assignment: it has no foreign keys on purpose. deployment_id: the row outlives its deployment
-- until the process is gone. node_id: a claim of 100,000 rows would pay for 100,000 look-ups. The
-- delete of a node takes the placement lock instead, and is refused while the node owns anything.
create table mooring.assignment (
  id bigint generated always as identity,
  deployment_id bigint not null,
  ordinal int constraint assignment_ordinal_is_not_negative check (ordinal >= 0),
  surplus boolean not null default false,
  handover text
    constraint assignment_handover_is_arriving_or_leaving
    check (handover in ('arriving', 'leaving')),
  signature uuid not null,
  node_id int,
  epoch bigint not null default 0 constraint assignment_epoch_is_not_negative check (epoch >= 0),
  wanted text not null default 'run'
    constraint assignment_wanted_is_run_or_stop check (wanted in ('run', 'stop')),
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
  -- Half full, like the index of ordinals: every change of owner puts a new entry beside the old
  -- one, and pages without room are searched for dead entries and split.
  constraint assignment_pkey primary key (id) with (fillfactor = 50),
  -- Read by heartbeat(), assignments_of(), reap(), leave(). It is a key only because assert_owner()
  -- locks it FOR KEY SHARE: reports and stop orders pass, a change of owner or epoch waits.
  constraint assignment_node_id_id_epoch_key unique (node_id, id, epoch),
  constraint assignment_owned_iff_leased check ((node_id is null) = (lease_ttl is null)),
  constraint assignment_owned_iff_assigned check ((node_id is null) = (assigned_at is null)),
  constraint assignment_pending_iff_waiting check ((node_id is null) = (waiting_since is not null)),
  constraint assignment_move_has_a_reason check (move_to is null or move_reason is not null),
  constraint assignment_daemon_always_has_a_node check (ordinal is not null or node_id is not null),
  constraint assignment_in_handover_always_has_a_node
    check (handover is null or ordinal is not null and node_id is not null),
  constraint assignment_surplus_always_has_a_node
    check (not surplus or ordinal is not null and node_id is not null)
);
-- Each replica has one row, and one more during a handover (begin_handovers() makes no third). This
-- is an index on an expression, because key columns could not change while assert_owner() locks the
-- row.
create unique index assignment_deployment_id_ordinal_idx
  on mooring.assignment (deployment_id, ordinal, (coalesce(handover, '')))
  with (fillfactor = 50);
-- read by handover_rows(): the few that take part in a handover
create index assignment_handover_idx
  on mooring.assignment (deployment_id, ordinal)
  where handover is not null;
-- read by claim(): one queue for each signature, so that work without a node costs nothing
create index assignment_pending_idx
  on mooring.assignment (signature, updated_at, created_at, id)
  where node_id is null and wanted = 'run';
-- read by moves_under_way(): the few that are moving
create index assignment_move_idx on mooring.assignment (id) where move_reason is not null;
-- read when a deployment arrives whose id existed before
create index assignment_surplus_idx on mooring.assignment (deployment_id) where surplus;
-- one instance of a daemon on each node
create unique index assignment_daemon_idx
  on mooring.assignment (deployment_id, node_id)
  where ordinal is null;
comment on table mooring.assignment is
  'One instance of a deployment and the node that owns it. Only verbs write it. An owned row is '
  'never deleted before its process is gone or its lease is over.';
comment on column mooring.assignment.id is 'Identity, never reused.';
comment on column mooring.assignment.deployment_id is
  'The deployment. It may be deleted while its process still has to stop.';
comment on column mooring.assignment.ordinal is
  'Number among the replicas: the lowest that was free. It never changes. Null for a daemon.';
comment on column mooring.assignment.surplus is
  'True where its deployment was deleted or scaled down: the row goes when its process is gone.';
comment on column mooring.assignment.handover is
  'Null: the replica. A handover has two rows of one ordinal. arriving: the successor, until it '
  'runs. leaving: the predecessor, from then on until it is gone.';
comment on column mooring.assignment.signature is
  'The signature of the deployment, or another one after nodes refused this assignment.';
comment on column mooring.assignment.node_id is 'The node that owns it. Null: pending.';
comment on column mooring.assignment.epoch is 'Fencing token: +1 at every release and every claim.';
comment on column mooring.assignment.wanted is
  'What the owner shall do. Within one epoch it goes from run to stop and never back.';
comment on column mooring.assignment.stop_reason is 'Why wanted is stop.';
comment on column mooring.assignment.move_to is
  'The node that gets it next, if that node may still run it when its processes are gone. A place '
  'there is reserved.';
comment on column mooring.assignment.move_reason is
  'Why it moves. Set from the order to stop until it was observed running on its new node.';
comment on column mooring.assignment.handover_failed_at is
  'When a handover of it failed. The next attempt comes after setting.handover_timeout.';
comment on column mooring.assignment.handover_error is 'Why that handover failed.';
comment on column mooring.assignment.lease_ttl is 'Copied at the claim and fixed for the epoch.';
comment on column mooring.assignment.last_node_id is 'The owner before.';
comment on column mooring.assignment.owner_reason is
  'The rule of the last change of owner: why this node owns it, or none.';
comment on column mooring.assignment.refused_by is
  'Nodes whose agent refused it. An edit of the spec empties the list.';
comment on column mooring.assignment.waiting_since is 'Pending since.';
comment on column mooring.assignment.assigned_at is 'Owned since.';
comment on column mooring.assignment.created_at is 'When the row was made.';
comment on column mooring.assignment.updated_at is
  'Place in the queue. Set when the row is made, on an edit of the spec and on a refusal. A '
  'claim, report or reap never sets it.';

create table mooring.run (
  assignment_id bigint not null,
  deployment_id bigint not null,
  node_id int not null,
  epoch bigint not null,
  generation bigint not null,
  state text not null
    constraint run_state_is_known
    check (
      state in (
        'installing', 'starting', 'running', 'stopping',
        'backoff', 'failed', 'stopped', 'refused', 'lost'
      )
    ),
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
-- The rows of a host lie together and are marked lost at once. Room for a second version of each
-- means that no index is written.
) with (fillfactor = 50);
comment on table mooring.run is
  'What an agent last observed of an assignment. History is in event.';
comment on column mooring.run.assignment_id is
  'The assignment. It is no foreign key: the last observation outlives the assignment.';
comment on column mooring.run.deployment_id is 'Its deployment.';
comment on column mooring.run.node_id is 'The node that reported.';
comment on column mooring.run.epoch is 'The epoch it was reported for.';
comment on column mooring.run.generation is 'The generation of the spec that ran.';
comment on column mooring.run.state is
  'installing, running, stopping, stopped, refused; starting: no agent of today sends it, because '
  'running follows a start at once; backoff: it ended and will start again; failed: it did not '
  'start and will be tried again; lost: its node was reaped.';
comment on column mooring.run.pid is 'Process id on its node.';
comment on column mooring.run.restarts is
  'How often it was started again on this node for this epoch.';
comment on column mooring.run.exit_code is 'Exit code of its last exit.';
comment on column mooring.run.exit_signal is 'Signal that caused its last exit.';
comment on column mooring.run.last_error is
  'The last error. It is null again when the first process of an epoch or generation runs.';
comment on column mooring.run.last_error_at is 'When the last error was reported.';
comment on column mooring.run.next_start_at is 'When the agent tries again.';
comment on column mooring.run.last_deployed_at is
  'When a process of a new epoch or generation was last observed running. A failure never erases '
  'it.';
comment on column mooring.run.last_active_at is 'When the agent last reported it.';

-- the default of two columns below
--!include functions/common/actor.sql

create table mooring.event (
  id bigint generated always as identity,
  at timestamptz not null default clock_timestamp(),
  -- no regular expression: it would take a third of the time of an insert, and each claim writes
  -- events
  kind text not null
    constraint event_kind_is_a_word
    check (length(kind) between 1 and 40 and ltrim(kind, 'abcdefghijklmnopqrstuvwxyz_') = ''),
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
-- read by mooring events; a claim writes none of these kinds, and so does not pay
create index event_deployment_idx
  on mooring.event (deployment_id, id)
  where kind in ('deployment_added', 'deployment_changed', 'deployment_deleted');
create index event_deleted_name_idx
  on mooring.event ((detail ->> 'name'))
  where kind = 'deployment_deleted';
comment on table mooring.event is
  'Append-only history: which actor did what, when and why. Read it with last_events(n).';
comment on column mooring.event.id is 'Identity, in the order of writing.';
comment on column mooring.event.at is 'Database clock.';
comment on column mooring.event.kind is
  'What happened, in the past tense: claimed, released, reaped, refused, stop_wanted ...';
comment on column mooring.event.assignment_id is 'The assignment concerned.';
comment on column mooring.event.deployment_id is 'The deployment concerned.';
comment on column mooring.event.node_id is 'The node concerned.';
comment on column mooring.event.node is 'Its name, which outlives it.';
comment on column mooring.event.epoch is 'The epoch after it.';
comment on column mooring.event.actor is
  'The database role that did it. In brackets stands the application_name of its connection, '
  'which the client chose.';
comment on column mooring.event.reason is 'The rule behind it, as a sentence.';
comment on column mooring.event.detail is
  'Figures. Of a change: {column: [before, after]}, where the values may be seen by viewers.';

-- ownership: which node owned what, and when. Append-only: an epoch has one row and ends where the
-- next one begins. So no row is ever updated, and no two owners at one instant can be stored. An
-- exclusion constraint over ranges says the same for eighteen times the price of the primary key.
create table mooring.ownership (
  assignment_id bigint not null,
  epoch bigint not null,
  deployment_id bigint not null,
  node_id int,
  node text,
  began_at timestamptz not null,
  actor text not null default mooring_internal.actor(),
  reason text,
  -- the index does not grow at its end: each epoch comes beside the others of its assignment
  constraint ownership_pkey primary key (assignment_id, epoch) with (fillfactor = 70)
);
comment on table mooring.ownership is
  'Every epoch of every assignment: its owner or none, its begin and its reason. Read it with '
  'history(assignment) and placement_at(time).';
comment on column mooring.ownership.assignment_id is
  'The assignment. It is no foreign key: history outlives the assignment.';
comment on column mooring.ownership.epoch is
  'The epoch. It ends where the next one of the assignment begins.';
comment on column mooring.ownership.deployment_id is 'Its deployment.';
comment on column mooring.ownership.node_id is
  'The owner. Null: the assignment was released and has none.';
comment on column mooring.ownership.node is 'Its name, which outlives it.';
comment on column mooring.ownership.began_at is 'Database clock, read under the lock of the row.';
comment on column mooring.ownership.actor is
  'The database role that did it. In brackets stands the application_name of its connection, '
  'which the client chose.';
comment on column mooring.ownership.reason is 'The rule behind it.';

-- node_load: append-only changes of the number of assignments of each node. A release appends and
-- never waits. claim() adds the changes up and folds them. Counting instead takes 33 ms for 90,000
-- rows, at every claim.
create table mooring_internal.node_load (
  node_id int not null,
  change int not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
-- A publication for all tables would refuse to delete rows of a table without a key.
alter table mooring_internal.node_load replica identity full;
comment on table mooring_internal.node_load is
  'How many assignments (daemons not counted) each node owns, as changes to be summed.';
comment on column mooring_internal.node_load.node_id is 'The node.';
comment on column mooring_internal.node_load.change is
  'How many assignments were added (positive) or removed (negative).';

-- A name means one program to its users: a port, a folder, an account. So what takes over the name
-- of a deleted deployment waits until that has stopped.
create table mooring_internal.stopping_deployment (
  id bigint not null,
  name text not null,
  constraint stopping_deployment_pkey primary key (id)
);
create index stopping_deployment_name_idx on mooring_internal.stopping_deployment (name);
comment on table mooring_internal.stopping_deployment is
  'Deleted deployments that had a name and instances. The evict round forgets those that stopped.';
comment on column mooring_internal.stopping_deployment.id is 'Its id.';
comment on column mooring_internal.stopping_deployment.name is 'The name it had.';

-- What went wrong on a node lately. It holds one row for each deployment that failed there, and one
-- for the node itself, so a loop of crashes does not let it grow. The evict round forgets old rows.
create table mooring_internal.node_trouble (
  node_id int not null,
  deployment_id bigint not null,
  times int not null default 1,
  last_at timestamptz not null default clock_timestamp(),
  constraint node_trouble_pkey primary key (node_id, deployment_id)
) with (fillfactor = 50);
comment on table mooring_internal.node_trouble is
  'What failed on a node lately, and how often the node itself was lost. Placement reads it.';
comment on column mooring_internal.node_trouble.node_id is 'The node.';
comment on column mooring_internal.node_trouble.deployment_id is
  'The deployment that failed there. 0: the node was lost.';
comment on column mooring_internal.node_trouble.times is
  'How often, since it last had a quiet time of six times setting.trouble_memory.';
comment on column mooring_internal.node_trouble.last_at is 'When it last did.';

create table mooring_internal.namesake (
  deployment_id bigint not null,
  waits_for bigint not null,
  constraint namesake_pkey primary key (deployment_id, waits_for)
);
create index namesake_waits_for_idx on mooring_internal.namesake (waits_for);
comment on table mooring_internal.namesake is
  'Deployments that were given the name of one that was still stopping.';
comment on column mooring_internal.namesake.deployment_id is 'The deployment.';
comment on column mooring_internal.namesake.waits_for is
  'The deleted deployment of that name. It is waited for while an assignment of it has an owner.';

create table mooring_internal.round (
  name text not null,
  due_at timestamptz not null default '-infinity',
  done_at timestamptz not null default '-infinity',
  constraint round_pkey primary key (name)
) with (fillfactor = 50);
comment on table mooring_internal.round is
  'The rounds that keep the fleet going when every notification is lost. tick() lets one caller '
  'at a time run each.';
comment on column mooring_internal.round.name is 'reap, place, evict or prune.';
comment on column mooring_internal.round.due_at is 'When tick() starts it next.';
comment on column mooring_internal.round.done_at is
  'When it last ended. If that is long ago no worker is alive, and agents run the rounds.';
insert into mooring_internal.round (name) values ('reap'), ('place'), ('evict'), ('prune');

create table mooring_internal.worker (
  id text not null constraint worker_id_is_short check (length(id) between 1 and 200),
  pool_ids text[] not null default '{}',
  ticked_at timestamptz not null default clock_timestamp(),
  constraint worker_pkey primary key (id)
) with (fillfactor = 50);
comment on table mooring_internal.worker is
  'Worker processes that ticked lately. The others unlock the jobs of a dead one.';
comment on column mooring_internal.worker.id is 'The worker process makes it at its start.';
comment on column mooring_internal.worker.pool_ids is
  'graphile-worker pools whose locks are freed when the worker is dead.';
comment on column mooring_internal.worker.ticked_at is 'Its last tick.';

create table mooring_internal.pulse (
  only_row boolean not null default true constraint pulse_is_one_row check (only_row),
  pulse_at timestamptz,
  hold_until timestamptz,
  hold_reason text,
  constraint pulse_pkey primary key (only_row)
) with (fillfactor = 50);
comment on table mooring_internal.pulse is
  'The last sign of life of the scheduler, and the hold that follows an outage.';
comment on column mooring_internal.pulse.only_row is 'Always true: there is one row.';
comment on column mooring_internal.pulse.pulse_at is 'The last tick of any worker or agent.';
comment on column mooring_internal.pulse.hold_until is
  'Until then nothing is reaped, claimed or newly started.';
comment on column mooring_internal.pulse.hold_reason is 'The outage that was noticed.';
insert into mooring_internal.pulse default values;

-- reap_pause is apart from pulse, because notice_outage() and every tick write pulse.
create table mooring_internal.reap_pause (
  only_row boolean not null default true constraint reap_pause_is_one_row check (only_row),
  paused_at timestamptz,
  reason text,
  resumed_at timestamptz,
  resumed_by name,
  constraint reap_pause_pkey primary key (only_row),
  constraint reap_pause_has_a_reason check ((paused_at is null) = (reason is null)),
  constraint reap_pause_is_resumed_at_a_time
    check (resumed_at is not null or resumed_by is null),
  constraint reap_pause_is_resumed_only_when_paused
    check (resumed_at is null or paused_at is not null)
) with (fillfactor = 50);
comment on table mooring_internal.reap_pause is
  'Whether so many nodes fell silent at once that reap() pauses. See setting.reap_pause_share.';
comment on column mooring_internal.reap_pause.only_row is 'Always true: there is one row.';
comment on column mooring_internal.reap_pause.paused_at is
  'Since when so many nodes are silent. Null: no pause.';
comment on column mooring_internal.reap_pause.reason is 'How many of how many nodes are silent.';
comment on column mooring_internal.reap_pause.resumed_at is
  'When reaping was resumed. It goes on in spite of the silence, until enough nodes are back.';
comment on column mooring_internal.reap_pause.resumed_by is
  'The login of the operator who resumed it. Null: setting.reap_pause_timeout did.';
insert into mooring_internal.reap_pause default values;

-- outage_marker is unlogged on purpose. Crash recovery and promotion empty it; a clean restart does
-- not.
create unlogged table mooring_internal.outage_marker (
  only_row boolean not null default true constraint outage_marker_is_one_row check (only_row),
  database_oid oid not null,
  system_identifier bigint,
  constraint outage_marker_pkey primary key (only_row)
);
comment on table mooring_internal.outage_marker is
  'A hold begins when it is empty (after a crash or a promotion) or foreign (after a restore).';
comment on column mooring_internal.outage_marker.only_row is 'Always true: there is one row.';
comment on column mooring_internal.outage_marker.database_oid is 'The database it was written in.';
comment on column mooring_internal.outage_marker.system_identifier is
  'The cluster it was written in. Null where the server does not tell.';

-- log_request: a slice of a log on its way from a host to its reader. The table is unlogged, so
-- that what a workload wrote is in no backup of the write-ahead log and on no replica. After a
-- crash the reader asks again. There are no foreign keys, because a row lives for a minute.
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
  max_bytes int not null
    constraint log_request_max_bytes_is_at_most_128_kib check (max_bytes between 1 and 131072),
  wait interval not null default '0'
    constraint log_request_wait_is_short check (wait between interval '0' and interval '30 s'),
  answered_at timestamptz,
  start_byte bigint,
  data bytea
    constraint log_request_data_is_within_what_was_asked check (octet_length(data) <= max_bytes),
  next text constraint log_request_next_is_short check (length(next) <= 100),
  more boolean,
  size bigint,
  error text constraint log_request_error_is_short check (length(error) <= 2000),
  constraint log_request_pkey primary key (id),
  constraint log_request_says_where_to_begin check (num_nonnulls(from_byte, tail_lines, after) = 1)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table mooring_internal.log_request is
  'Slices of logs that were requested and not read yet. request_log() makes a row, the agent '
  'answers it, read_log() deletes it. The next request deletes rows older than a minute.';
comment on column mooring_internal.log_request.id is
  'The argument of read_log(). It is random, so that after a crash of the database no late answer '
  'meets another request.';
comment on column mooring_internal.log_request.assignment_id is 'The assignment whose log is read.';
comment on column mooring_internal.log_request.node_id is 'The node that holds the log.';
comment on column mooring_internal.log_request.requested_by is
  'The login that asked. Only this login and the owner of the schema read the answer.';
comment on column mooring_internal.log_request.requested_at is 'When it was requested.';
comment on column mooring_internal.log_request.hinted_at is
  'When the agent was last notified. After it has read the request: until when it may wait.';
comment on column mooring_internal.log_request.from_byte is
  'Begin at this byte of all that is kept. Negative: so many bytes before the end.';
comment on column mooring_internal.log_request.tail_lines is 'Begin so many lines before the end.';
comment on column mooring_internal.log_request.after is
  'Begin where an earlier answer ended, also after a rotation.';
comment on column mooring_internal.log_request.max_bytes is 'The answer has at most so many bytes.';
comment on column mooring_internal.log_request.wait is
  'When there is nothing yet, the agent waits so long before it answers.';
comment on column mooring_internal.log_request.answered_at is
  'When the agent answered. Null: not yet.';
comment on column mooring_internal.log_request.start_byte is 'Offset of data in all that is kept.';
comment on column mooring_internal.log_request.data is
  'The slice as it was written. It may begin and end inside a line or a character.';
comment on column mooring_internal.log_request.next is
  'The value for after => of the next request.';
comment on column mooring_internal.log_request.more is
  'True when there was more at the time of reading.';
comment on column mooring_internal.log_request.size is
  'Bytes kept, uncompressed and with rotated parts. 0 with an error: there is no log.';
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
comment on type mooring.node_state is
  'What a policy knows of a node: its assignments now, those planned in this call included, and '
  'its last sample.';

create type mooring_internal.placement_class as (
  policy text,
  signatures uuid[],
  node_ids int[]
);
comment on type mooring_internal.placement_class is
  'Pending work that may go to the same nodes under the same policy.';

--!include all.sql

-- an empty marker means an outage from now on
select mooring_internal.write_outage_marker();

-- graphile-worker lives in a schema of ours, mooring_jobs, whatever the application next to us has.
-- It keeps the names of tasks in a table with a unique key, and the first job of a
-- name inserts it. Without these jobs, all inserts of deployments would wait for the transaction of
-- the first.
do $$
declare
  task text;
begin
  foreach task in array '{place,reap,evict,prune}'::text[] loop
    perform mooring_jobs.add_job(task, job_key => 'make ' || task || ' known');
    perform mooring_jobs.remove_job('make ' || task || ' known');
  end loop;
end;
$$;

-- Every added job consumes an int for the name of its task, even if the name is known. At a hundred
-- jobs a second they are used up after eight months. A sequence that cycles is harmless: the name
-- is known, so the insert that consumed the number does nothing.
do $$
begin
  execute format(
    'alter sequence %s cycle',
    pg_get_serial_sequence('mooring_jobs._private_tasks', 'id'));
end;
$$;
