--! Previous: -
--! Hash: sha1:bb8220b2c33bf1ebe9cbe9b85473bb3c9331b128
--! Message: schema

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
--! Included functions/common/actor.sql
-- The name an event gives to its cause: the login, then in brackets the client's own name.
-- Examples: "alice (psql)", "mooring (mooring worker: jobs)".
-- The login is proven. The client chooses the second part freely, so nothing is decided by it.
-- That part is cut, made printable and stripped of brackets, and it always stands second.
-- One expression, so that it inlines. A statement that writes thousands of rows evaluates it once:
-- (select mooring_internal.actor()).
create or replace function mooring_internal.actor() returns text
  language sql stable
return session_user || coalesce(
  ' (' || nullif(
    btrim(translate(
      regexp_replace(
        left(current_setting('application_name', true), 63),
        '[^ -~]',
        '?',
        'g'),
      '()',
      '[]')),
    '') || ')',
  '');
comment on function mooring_internal.actor() is
  'The acting login, and in brackets the application_name its client chose (unproven).';
--! EndIncluded functions/common/actor.sql

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

--! Included all.sql
-- Table of contents: every definition that is harmless to re-run, in order of dependency, grants
-- last.

-- common: what every room uses
--! Included functions/common/actor.sql
-- The name an event gives to its cause: the login, then in brackets the client's own name.
-- Examples: "alice (psql)", "mooring (mooring worker: jobs)".
-- The login is proven. The client chooses the second part freely, so nothing is decided by it.
-- That part is cut, made printable and stripped of brackets, and it always stands second.
-- One expression, so that it inlines. A statement that writes thousands of rows evaluates it once:
-- (select mooring_internal.actor()).
create or replace function mooring_internal.actor() returns text
  language sql stable
return session_user || coalesce(
  ' (' || nullif(
    btrim(translate(
      regexp_replace(
        left(current_setting('application_name', true), 63),
        '[^ -~]',
        '?',
        'g'),
      '()',
      '[]')),
    '') || ')',
  '');
comment on function mooring_internal.actor() is
  'The acting login, and in brackets the application_name its client chose (unproven).';
--! EndIncluded functions/common/actor.sql
--! Included functions/common/abbreviate_list.sql
-- Stable, as format() is: declared immutable it would not inline.
-- Names for a sentence: the first few, then how many more there are.
create or replace function mooring_internal.abbreviate_list(
  names text[],
  at_most int default 3
) returns text
  language sql stable parallel safe
return array_to_string(names[1:at_most], ', ')
  || case when cardinality(names) > at_most
          then format(' and %s more', cardinality(names) - at_most)
          else '' end;
comment on function mooring_internal.abbreviate_list(text[], int) is
  'The first names of a list, and how many more there are; null for a null list.';
--! EndIncluded functions/common/abbreviate_list.sql
--! Included functions/common/format_duration.sql
-- Stable, as the text of an interval is: declared immutable it would not inline.
create or replace function mooring_internal.format_duration(past interval) returns text
  language sql stable parallel safe
return case when past < interval '10 s' then trim_scale(round(extract(epoch from past), 1)) || ' s'
            when past < interval '2 min' then round(extract(epoch from past)) || ' s'
            else date_trunc('second', justify_hours(past))::text end;
comment on function mooring_internal.format_duration(interval) is
  'A duration for people: 2.5 s, 40 s, 00:03:12, 2 days 04:00:00.';
--! EndIncluded functions/common/format_duration.sql
--! Included functions/common/lock_key.sql
-- Mooring's advisory locks by name. They use the two-key form: the first key stands for Mooring,
-- the second for the lock.
create or replace function mooring_internal.lock_key(name text) returns int
  language sql immutable parallel safe
return case name when 'placing' then 1
                 when 'waiting to place' then 2 end;
comment on function mooring_internal.lock_key(text) is
  'Second key of an advisory lock; the first is mooring_internal.lock_space().';
--! EndIncluded functions/common/lock_key.sql
--! Included functions/common/lock_space.sql
create or replace function mooring_internal.lock_space() returns int
  language sql immutable parallel safe
return 1297043282;
comment on function mooring_internal.lock_space() is
  'First key of Mooring''s advisory locks: the letters MOOR.';
--! EndIncluded functions/common/lock_space.sql
--! Included functions/common/milliseconds.sql
create or replace function mooring_internal.milliseconds(duration interval) returns int
  language sql immutable parallel safe
return round(extract(epoch from duration) * 1000)::int;
comment on function mooring_internal.milliseconds(interval) is
  'Durations leave the database as milliseconds; '
  'agents measure them with their own monotonic clock.';
--! EndIncluded functions/common/milliseconds.sql
--! Included functions/common/timeline.sql
-- The timeline of the write-ahead log that is being written. A promotion raises it.
-- Managed servers refuse some of the functions that tell it, so the rights are asked first.
-- pg_control_checkpoint() comes last: it shows a promotion only after the next checkpoint.
create or replace function mooring_internal.timeline() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  written pg_lsn;
begin
  if pg_is_in_recovery() then
    return null;
  end if;
  if has_function_privilege('pg_current_wal_lsn()', 'execute') then
    written := pg_current_wal_lsn();
  elsif has_function_privilege('pg_current_wal_insert_lsn()', 'execute') then
    written := pg_current_wal_insert_lsn();
  elsif has_function_privilege('pg_current_wal_flush_lsn()', 'execute') then
    written := pg_current_wal_flush_lsn();
  end if;
  if written is not null and has_function_privilege('pg_walfile_name(pg_lsn)', 'execute') then
    return ('x' || left(pg_walfile_name(written), 8))::bit(32)::int;
  elsif has_function_privilege('pg_control_checkpoint()', 'execute') then
    return (select c.timeline_id from pg_control_checkpoint() c);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.timeline() is
  'The timeline of the server; null on a standby, and where the server does not tell.';
--! EndIncluded functions/common/timeline.sql
--! Included functions/common/system_identifier.sql
-- A promoted standby has the one of its old primary; a restored dump has another.
create or replace function mooring_internal.system_identifier() returns bigint
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if has_function_privilege('pg_control_system()', 'execute') then
    return (select c.system_identifier from pg_control_system() c);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.system_identifier() is
  'The number of the database cluster; null where the server does not tell, as managed ones may.';
--! EndIncluded functions/common/system_identifier.sql
--! Included functions/common/limit_idle.sql
-- A verb that locks what others need must not stay forgotten in an open transaction.
-- From this call on, the server ends the transaction when its session idles in it too long.
-- The limit is `patience`, by default setting.placement_lock_timeout.
-- A shorter limit that is already in force stays.
create or replace function mooring_internal.limit_idle(
  patience interval default null
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force interval :=
    nullif(current_setting('idle_in_transaction_session_timeout')::interval, interval '0');
begin
  patience := coalesce(patience, (select s.placement_lock_timeout from mooring.setting s));
  if in_force is null or in_force > patience then
    perform set_config(
      'idle_in_transaction_session_timeout',
      greatest(1, mooring_internal.milliseconds(patience))::text,
      true);
  end if;
end;
$$;
comment on function mooring_internal.limit_idle(interval) is
  'Lets the server end the current transaction when its session idles in it for longer than this '
  '(null: setting.placement_lock_timeout).';
--! EndIncluded functions/common/limit_idle.sql
--! Included functions/common/limit_transaction.sql
-- Ends the current transaction when it is not over within `patience`, in a long statement too.
-- With transaction_timeout (PostgreSQL 17) that is counted from this call, and a later call counts
-- again. Before, each later statement has so long, which a session that cannot speak any more
-- sends none of. A shorter limit of the session's own stays: the first call remembers it until the
-- transaction ends.
create or replace function mooring_internal.limit_transaction(patience interval) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  has_one constant boolean := current_setting('server_version_num')::int >= 170000;
  limiting constant text :=
    case when has_one then 'transaction_timeout' else 'statement_timeout' end;
  own text := coalesce(
    nullif(current_setting('mooring.own_limit', true), ''), current_setting(limiting));
  own_left interval := nullif(own::interval, interval '0')
    - case when has_one then clock_timestamp() - now() else interval '0' end;
begin
  perform set_config('mooring.own_limit', own, true);
  -- a timer that runs is set anew only after it was switched off
  perform set_config(limiting, '0', true);
  perform set_config(
    limiting,
    greatest(1, mooring_internal.milliseconds(
      least(own_left, limit_transaction.patience)))::text,
    true);
end;
$$;
comment on function mooring_internal.limit_transaction(interval) is
  'Lets the server end the current transaction when it is not over within this; before PostgreSQL '
  '17 each of its later statements.';
--! EndIncluded functions/common/limit_transaction.sql
--! Included functions/common/require_durable_commit.sql
-- An order to an agent must survive a crash, whatever synchronous_commit the session prefers.
-- If it did not, the server would give the same id and epoch to another owner after the crash.
-- Until the transaction ends, its commit waits as the database's own setting says.
-- Where that setting is off too, the commit waits for the disk of its own server.
create or replace function mooring_internal.require_durable_commit() returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if current_setting('synchronous_commit') = 'off' then
    set local synchronous_commit to default;
    if current_setting('synchronous_commit') = 'off' then
      perform set_config('synchronous_commit', 'on', true);
    end if;
  end if;
end;
$$;
comment on function mooring_internal.require_durable_commit() is
  'Lets the commit of the current transaction wait for the disk, whatever the session prefers.';
--! EndIncluded functions/common/require_durable_commit.sql
--! Included functions/common/may_notify.sql
-- Hints save time and are never needed: the next beat or round finds what they tell of.
-- A notification fails the commit of its transaction where the queue is full, and it fails `prepare
-- transaction`. So no hint is sent while the queue is more than half full, nor in a session that
-- has `set mooring.hints = off`.
create or replace function mooring_internal.may_notify() returns boolean
  language sql volatile
return coalesce(current_setting('mooring.hints', true), '') <> 'off'
  and pg_notification_queue_usage() < 0.5;
comment on function mooring_internal.may_notify() is
  'False while a notification could fail the transaction that sends it.';
--! EndIncluded functions/common/may_notify.sql
--! Included functions/common/add_event.sql
-- A verb that changes many rows inserts its events itself, in the statement that changes the rows.
create or replace function mooring_internal.add_event(
  kind text,
  reason text,
  node_id int default null,
  detail jsonb default null
) returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring.event (kind, reason, node_id, node, detail)
  select add_event.kind, add_event.reason, add_event.node_id,
      (select n.name from mooring.node n where n.id = add_event.node_id),
      add_event.detail;
end;
comment on function mooring_internal.add_event(text, text, int, jsonb) is 'Appends one event.';
--! EndIncluded functions/common/add_event.sql
--! Included functions/common/enqueue.sql
-- Asks the workers for a job, at most once a transaction.
-- It never fails its caller. When graphile-worker is missing or refuses, the caller gets a WARNING
-- and the next round finds the work.
-- Without a worker the rounds of the agents do the work, and jobs would only pile up, one for each
-- transaction: a hundred are enough for the worker that comes.
-- The job key contains the transaction id. A key shared between transactions would be a row lock
-- until commit, so one idle psql would block the inserts of every other session.
create or replace function mooring_internal.enqueue(task text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if not mooring_internal.may_notify() then
    return;
  end if;
  if not exists (
      select from mooring_internal.worker w
       where mooring_internal.worker_is_alive(w))
    and (
      select count(*)
        from (
          select
            from mooring_jobs.jobs j
           where j.task_identifier = enqueue.task
             and j.locked_at is null
           limit 100) waiting) = 100
  then
    return;
  end if;
  perform mooring_jobs.add_job(
    enqueue.task,
    job_key => enqueue.task || ':' || pg_current_xact_id(),
    max_attempts => 1);
exception when others then
  raise warning 'mooring: no % job was queued (%); the next round does the work',
    enqueue.task, sqlerrm;
end;
$$;
comment on function mooring_internal.enqueue(text) is
  'Queues one graphile-worker job per transaction; a failure is a WARNING, never an error.';
--! EndIncluded functions/common/enqueue.sql
--! Included functions/common/schema_version.sql
-- Every committed migration raises it by one.
-- Agents and workers refuse a database that is older or newer than the version they know.
create or replace function mooring.schema_version() returns int
  language sql immutable parallel safe
return 1;
comment on function mooring.schema_version() is 'Number of the last migration.';
--! EndIncluded functions/common/schema_version.sql
--! Included functions/common/letter_pairs.sql
create or replace function mooring_internal.letter_pairs(word text) returns text[]
  language sql immutable parallel safe
return array(
  select distinct substr('^' || lower(word) || '$', g.at, 2)
    from generate_series(1, length(word) + 1) g (at));
comment on function mooring_internal.letter_pairs(text) is
  'Pairs of neighbouring letters of a word; ^ and $ mark its ends.';
--! EndIncluded functions/common/letter_pairs.sql

-- roles: who may act for a node, and the rights of the database roles
--! Included functions/roles/is_schema_owner.sql
create or replace function mooring_internal.is_schema_owner() returns boolean
  language sql stable
return pg_has_role(
  session_user,
  (select s.nspowner from pg_namespace s where s.nspname = 'mooring'),
  'member');
comment on function mooring_internal.is_schema_owner() is
  'True for the role that owns the schema, for its members, and for superusers.';
--! EndIncluded functions/roles/is_schema_owner.sql
--! Included functions/roles/acts_for.sql
-- Decides whether the login may act for a node. Two may: the database role to which the node is
-- bound (node.role_name, the role that first registered it), and the owner of the schema. The
-- function asks session_user, the login, because inside a verb current_user is the owner. SET ROLE
-- therefore changes nothing.
create or replace function mooring_internal.acts_for(role_name text) returns boolean
  language sql stable
return case when role_name = session_user then true else mooring_internal.is_schema_owner() end;
comment on function mooring_internal.acts_for(text) is
  'True when the login may act for a node that is bound to this role. null: the node is not bound '
  'yet.';
--! EndIncluded functions/roles/acts_for.sql
--! Included functions/roles/raise_not_your_node.sql
create or replace function mooring_internal.raise_not_your_node(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  raise exception using
    errcode = 'MR009',
    message = format(
      'node %s is not bound to role %s',
      left(coalesce(raise_not_your_node.node, 'null'), 63), session_user),
    hint = format(
      'A node belongs to the role that first registered it. An operator may bind it to another '
      'role: update mooring.node set role_name = %L where name = %L; '
      'mooring role create agent prints how to make a role.',
      session_user, left(raise_not_your_node.node, 63));
end;
$$;
comment on function mooring_internal.raise_not_your_node(text) is
  'Raises MR009: the login is not the role to which the node is bound.';
--! EndIncluded functions/roles/raise_not_your_node.sql
--! Included functions/roles/rights_of_roles.sql
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
--! EndIncluded functions/roles/rights_of_roles.sql
--! Included functions/roles/set_up_roles.sql
-- set_up_roles: which role may do what, in one place. It creates the four group roles if it may,
-- and grants each what its members need. It revokes every other right that they have in this
-- schema. Roles belong to the cluster and grants to the database, so every migration and each
-- `mooring migrate` run it. A migrating role that may not create roles leaves that to a superuser;
-- then it is run again. Until then everything works for the owner of the schema.
--   mooring_viewer     views, explain, history; of deployments neither env nor args nor command
--   mooring_operator   the same, whole deployments, the operator's verbs, logs, editable columns
--                      of node, the settings. Not policies: their functions run as the owner
--   mooring_agent      the agent's verbs, each for the nodes of the login only, and no table
--   mooring_workload   assert_owner() alone. It is not public, because it can delay the failover of
--                      any assignment it names
-- PUBLIC gets nothing, also where a restored dump or default privileges gave it something.
-- Workers have no role: the tables of graphile-worker show their rows to their owner only.
create or replace function mooring.set_up_roles() returns table (role text, problem text)
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  verbs constant jsonb := mooring_internal.rights_of_roles() -> 'verbs';
  tables constant jsonb := mooring_internal.rights_of_roles() -> 'tables';
  thing text;
  found_as text;
begin
  revoke all on all routines in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on all tables in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on all sequences in schema mooring, mooring_internal, mooring_jobs from public;
  revoke all on schema mooring, mooring_internal, mooring_jobs from public;
  for role in
    select k
      from jsonb_object_keys(verbs) k
     order by k desc
  loop
    problem := null;
    begin
      if to_regrole(role) is null then
        execute format('create role %I nologin', role);
      end if;
    exception
      -- a migration of another database of the cluster created it a moment ago
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        problem := format(
          'role %s does not exist, and %s may not create it: create role %s; as a superuser, '
          'then run mooring migrate again',
          role, current_user, role);
        return next;
        continue;
    end;
    execute format('revoke all on all routines in schema mooring, mooring_internal from %I', role);
    execute format('revoke all on all tables in schema mooring, mooring_internal from %I', role);
    -- mooring_internal needs no usage: a view resolved its functions when it was created,
    -- so execute is enough
    execute format('revoke all on schema mooring_internal from %I', role);
    execute format('grant usage on schema mooring to %I', role);
    for thing in select t from jsonb_array_elements_text(verbs -> role) t loop
      select p.oid::regprocedure::text into found_as
        from pg_proc p
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         and p.proname = thing;
      if found_as is null then
        raise exception 'set_up_roles() names a function that does not exist: %', thing;
      end if;
      execute format('grant execute on routine %s to %I', found_as, role);
    end loop;
    for thing in select t from jsonb_array_elements_text(coalesce(tables -> role, '[]')) t loop
      execute format('grant %s to %I', thing, role);
    end loop;
    if role = 'mooring_viewer' then
      -- no view shows what may hold a secret
      for thing in
        select c.oid::regclass::text
          from pg_class c
         where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v'
      loop
        execute format('grant select on %s to %I', thing, role);
      end loop;
    end if;
  end loop;
  if to_regrole('mooring_viewer') is not null
    and to_regrole('mooring_operator') is not null
    and not pg_has_role('mooring_operator', 'mooring_viewer', 'usage')
  then
    begin
      grant mooring_viewer to mooring_operator;
    exception
      when unique_violation then null;
      when insufficient_privilege then
        role := 'mooring_operator';
        problem := format(
          '%s may not make operators viewers: grant mooring_viewer to mooring_operator; '
          'as a superuser',
          current_user);
        return next;
    end;
  end if;
end;
$$;
comment on function mooring.set_up_roles() is
  'Creates mooring_viewer, mooring_operator, mooring_agent and mooring_workload and grants their '
  'rights. Returns a row per role for what could not be done, with the way out.';
--! EndIncluded functions/roles/set_up_roles.sql

-- rounds: outages and holds, the clock of the fleet, reaping
--! Included functions/rounds/round_interval.sql
-- How often a round runs. Reap and place run at least once in a sixth of the lease, so that scaling
-- the lease down scales them too.
create or replace function mooring_internal.round_interval(name text) returns interval
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return (
    select case round_interval.name
        when 'evict' then s.evict_interval
        when 'prune' then s.prune_interval
        else least(s.round_interval, s.lease_ttl / 6)
      end
      from mooring.setting s);
end;
$$;
comment on function mooring_internal.round_interval(text) is
  'Period of a round: reap and place by setting.round_interval (at most a sixth of the lease), '
  'evict and prune by their own settings.';
--! EndIncluded functions/rounds/round_interval.sql
--! Included functions/rounds/round_is_overdue.sql
-- A round is overdue after one and a quarter of its periods without work. It is also overdue when
-- its last work lies in the future by the clock. Then the answer to a heartbeat asks the agent to
-- run it.
-- That is sooner than the next beat by default. Otherwise an agent alone would tick with every
-- second beat, half a lease apart, which is an outage by the rules of notice_outage().
create or replace function mooring_internal.round_is_overdue(round mooring_internal.round)
  returns boolean
  language sql stable
return not round.done_at
  between clock_timestamp() - 1.25 * mooring_internal.round_interval(round.name)
      and clock_timestamp() + mooring_internal.round_interval(round.name);
comment on function mooring_internal.round_is_overdue(mooring_internal.round) is
  'True when the round''s work has not been done in time.';
--! EndIncluded functions/rounds/round_is_overdue.sql
--! Included functions/rounds/finish_round.sql
-- Notes that a round's work was done just now. It writes at most twice a period and never waits for
-- the row, because hundreds of claims may end at once.
-- locks: round (skip locked)
create or replace function mooring_internal.finish_round(name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring_internal.round r
     set done_at = clock_timestamp()
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = finish_round.name
        and (
          l.done_at < clock_timestamp() - mooring_internal.round_interval(l.name) / 2
          or l.done_at > clock_timestamp())
        for update skip locked);
end;
$$;
comment on function mooring_internal.finish_round(text) is
  'Notes the end of a round.';
--! EndIncluded functions/rounds/finish_round.sql
--! Included functions/rounds/round_error.sql
-- Why a round failed when it ran last; null when it has succeeded since. A round that a caller of
-- tick() ran itself leaves an event, and one that a worker ran leaves its spent job. Of the history
-- it looks at the end alone. In plpgsql, so that it stands also where mooring_jobs is missing.
create or replace function mooring_internal.round_error(name text) returns text
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  prefix text := format('round %s failed: ', round_error.name);
  done_at timestamptz := (
    select r.done_at
      from mooring_internal.round r
     where r.name = round_error.name);
  failed_at timestamptz;
  error text;
  job record;
begin
  select l.at, substr(l.reason, length(prefix) + 1) into failed_at, error
    from mooring.last_events(1000) l
   where l.kind = 'round_failed' and starts_with(l.reason, prefix) and l.at > done_at
   order by l.at desc
   limit 1;
  if to_regclass('mooring_jobs.jobs') is not null then
    select j.updated_at, j.last_error into job
      from mooring_jobs.jobs j
     where j.task_identifier = round_error.name
       and j.attempts >= j.max_attempts
       and j.last_error is not null
       and j.updated_at > greatest(done_at, failed_at)
     order by j.updated_at desc
     limit 1;
    error := coalesce(job.last_error, error);
  end if;
  return left(split_part(error, chr(10), 1), 300);
end;
$$;
comment on function mooring_internal.round_error(text) is
  'Why a round failed when it ran last; null when it has succeeded since.';
--! EndIncluded functions/rounds/round_error.sql
--! Included functions/rounds/worker_is_alive.sql
-- Alive: it has ticked within three periods, and three seconds for a busy machine.
create or replace function mooring_internal.worker_is_alive(worker mooring_internal.worker)
  returns boolean
  language sql stable
return worker.ticked_at
  > clock_timestamp() - 3 * mooring_internal.round_interval('reap') - interval '3 s';
comment on function mooring_internal.worker_is_alive(mooring_internal.worker) is
  'True while a worker process ticks.';
--! EndIncluded functions/rounds/worker_is_alive.sql
--! Included functions/rounds/outage_marker_is_present.sql
-- The marker is an unlogged row, so a crash or a promotion empties it. It names its database and
-- server, so a restored dump does not pass for the original.
create or replace function mooring_internal.outage_marker_is_present() returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return exists (
    select from mooring_internal.outage_marker m
     where m.database_oid = (
         select d.oid
           from pg_database d
          where d.datname = current_database())
       and m.system_identifier is not distinct from mooring_internal.system_identifier());
end;
$$;
comment on function mooring_internal.outage_marker_is_present() is
  'False after a crash, a promotion or a restore that has not been noticed yet.';
--! EndIncluded functions/rounds/outage_marker_is_present.sql
--! Included functions/rounds/write_outage_marker.sql
create or replace function mooring_internal.write_outage_marker() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.outage_marker (database_oid, system_identifier)
  select d.oid, mooring_internal.system_identifier()
    from pg_database d
   where d.datname = current_database()
  on conflict (only_row) do update
     set database_oid = excluded.database_oid,
         system_identifier = excluded.system_identifier;
end;
comment on function mooring_internal.write_outage_marker() is
  'Writes the outage marker: from now on an empty one means a new outage.';
--! EndIncluded functions/rounds/write_outage_marker.sql
--! Included functions/rounds/notice_outage.sql
-- Starts a hold after an outage. For one lease + margin nothing is reaped, claimed or newly
-- started: agents could not beat while the database was away, so their silence proves nothing.
-- An outage shows as
--   an empty outage_marker   crash recovery or promotion, which empty an unlogged table; a clean
--                            restart does not
--   a foreign outage_marker  a restored dump
--   an old pulse             no tick for half a lease: the database was down or paused, or no
--                            caller was there
--   a pulse in the future    the clock was set back.
-- notice_clock_step() finds the fifth sign. README.md tells when a hold begins again.
-- Where no agent holds a name nothing can be running. Then nothing is held, and the pulse starts
-- with the first agent.
-- locks: pulse (skip locked: the transaction that holds it notices the same)
create or replace function mooring_internal.notice_outage() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- read before the pulse: a delay after this only makes the pulse look younger
  at timestamptz := clock_timestamp();
  pulse mooring_internal.pulse;
  marked boolean;
  setting mooring.setting;
  in_hold boolean;
  -- the last time at which the database was surely up
  up_at timestamptz;
  noticed text;
begin
  -- in one statement: a pulse of before another session noticed and a marker of after it would
  -- together say that nothing happened
  select p.pulse_at, p.hold_until, mooring_internal.outage_marker_is_present()
    into pulse.pulse_at, pulse.hold_until, marked
    from mooring_internal.pulse p;
  select s.* into setting from mooring.setting s;
  in_hold := coalesce(pulse.hold_until > at, false);
  up_at := pulse.pulse_at;
  -- start_hold() leaves the pulse at the hold's beginning; a later pulse comes from a tick
  if coalesce(pulse.hold_until > pulse.pulse_at, false)
    and pulse.pulse_at <= pulse.hold_until - mooring_internal.hold_length()
  then
    if in_hold then
      up_at := pulse.pulse_at + setting.lease_ttl / 2;
    elsif not exists (
      select from mooring.heartbeat h
       where h.session is not null and h.beat_at > pulse.pulse_at)
    then
      up_at := pulse.hold_until;
    end if;
  end if;
  noticed := case
    when not marked then 'the database crashed, was promoted or restored'
    when up_at < at - setting.lease_ttl / 2 then format(
      'no worker or agent ticked for %s',
      justify_interval(date_trunc('milliseconds', at - pulse.pulse_at)))
    when pulse.pulse_at > at + setting.reap_margin then format(
      'the clock went back by %s',
      justify_interval(date_trunc('milliseconds', pulse.pulse_at - at)))
    -- the margin: the session that set the hold may have read the clock after this one
    when in_hold
      and pulse.hold_until > at + mooring_internal.hold_length() + setting.reap_margin
      then 'the clock went back during a hold'
  end;
  if noticed is null then
    return in_hold;
  end if;
  return mooring_internal.start_hold(at, pulse.hold_until, noticed);
end;
$$;
comment on function mooring_internal.notice_outage() is
  'Looks for an outage; the first caller that notices one starts the hold. True while there is a '
  'hold: nothing may be reaped, claimed or newly started. It writes; readers call hold_reason().';
--! EndIncluded functions/rounds/notice_outage.sql
--! Included functions/rounds/notice_clock_step.sql
-- Compares the database clock with the monotonic clock of the ticking caller, which no step moves.
-- A step forwards by more than the margin makes silent nodes look silent for longer than they were.
-- A step shorter than half a lease leaves no old pulse behind, so notice_outage() cannot find it.
-- The caller sends the database time of its last tick, and the time since then on its own clock.
-- Both times include the way of a request, so one second is granted however small the margin is.
-- notice_outage() judges what is longer ago than a lease.
-- A step during a hold begins the hold again, once: a hold that began after the caller's last tick
-- already covers the step.
-- locks: pulse (skip locked)
create or replace function mooring_internal.notice_clock_step(
  last_clock_ms float8,
  since_ms float8,
  at timestamptz
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  setting mooring.setting;
  until timestamptz;
  since interval;
  step interval;
begin
  select s.* into setting from mooring.setting s;
  if since_ms between 0 and mooring_internal.milliseconds(setting.lease_ttl)
    and last_clock_ms between 0 and 1e15
  then
    since := since_ms * interval '1 ms';
    step := (extract(epoch from at)::float8 * 1000 - last_clock_ms) * interval '1 ms' - since;
    if abs(extract(epoch from step))
      > extract(epoch from greatest(setting.reap_margin, interval '1 s'))
    then
      select p.hold_until into until from mooring_internal.pulse p;
      if until is null
        or until < at + mooring_internal.hold_length() - since - setting.reap_margin
      then
        return mooring_internal.start_hold(
          at,
          until,
          format(
            'the clock went %s by %s',
            case when step < interval '0' then 'back' else 'forward' end,
            justify_interval(date_trunc('milliseconds', greatest(step, -step)))));
      end if;
    end if;
  end if;
  return false;
end;
$$;
comment on function mooring_internal.notice_clock_step(float8, float8, timestamptz) is
  'Starts a hold when the database clock was stepped since the caller''s last tick. last_clock_ms: '
  'the database clock at that tick, in milliseconds since 1970. since_ms: milliseconds since then '
  'on the caller''s own clock. at: the database clock now. True when there is a hold.';
--! EndIncluded functions/rounds/notice_clock_step.sql
--! Included functions/rounds/hold_length.sql
create or replace function mooring_internal.hold_length() returns interval
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return (
    select s.reap_margin + greatest(
        s.lease_ttl,
        (select max(h.lease_ttl) from mooring.heartbeat h where h.session is not null))
      from mooring.setting s);
end;
$$;
comment on function mooring_internal.hold_length() is
  'How long a hold lasts: the longest lease that a session holds, and the margin.';
--! EndIncluded functions/rounds/hold_length.sql
--! Included functions/rounds/start_hold.sql
-- Sets the hold, unless another session is doing so or has done so since the caller read the pulse.
-- Returns false where no agent holds a name: then only the pulse starts again.
-- locks: pulse (skip locked)
create or replace function mooring_internal.start_hold(
  at timestamptz,
  hold_until_observed timestamptz,
  noticed text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  has_sessions boolean := exists (
    select from mooring.heartbeat h
     where h.session is not null);
begin
  perform
    from mooring_internal.pulse p
   where p.only_row
     and p.hold_until is not distinct from start_hold.hold_until_observed
     for update skip locked;
  if found then
    update mooring_internal.pulse p
       set pulse_at = start_hold.at,
           hold_until = case
             when has_sessions then start_hold.at + mooring_internal.hold_length()
           end,
           hold_reason = case when has_sessions then start_hold.noticed end;
    -- under the lock of the pulse, so that no session waits for the one that writes the marker
    perform mooring_internal.write_outage_marker();
    if has_sessions then
      perform mooring_internal.add_event('hold_started', start_hold.noticed);
    end if;
  end if;
  return has_sessions;
end;
$$;
comment on function mooring_internal.start_hold(timestamptz, timestamptz, text) is
  'Begins a hold, once for all callers that notice the same, and writes the reason as an event.';
--! EndIncluded functions/rounds/start_hold.sql
--! Included functions/rounds/hold_reason.sql
-- What notice_outage() decides, for readers. It writes nothing, so it works on a standby and inside
-- views.
create or replace function mooring_internal.hold_reason() returns text
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select case
      when p.hold_until > clock_timestamp() then p.hold_reason
      -- unlogged tables cannot be read on a standby
      when pg_is_in_recovery() then null
      when exists (select from mooring.heartbeat h where h.session is not null)
        and not mooring_internal.outage_marker_is_present()
        then 'the database crashed, was promoted or restored'
    end
    from mooring_internal.pulse p);
comment on function mooring_internal.hold_reason() is
  'Why nothing is reaped, claimed or started at the moment; null when there is no hold.';
--! EndIncluded functions/rounds/hold_reason.sql
--! Included functions/rounds/update_reap_pause.sql
-- The circuit breaker of reap(). It pauses reaping when more than setting.reap_pause_share of the
-- nodes are silent. The cause is then more often a network, a firewall or a wrong address than so
-- many dead hosts. Moving everything to the few nodes that are left would make it worse.
-- One event and fleet.reap_paused say so, until the nodes return or an operator calls
-- resume_reaping().
-- Counted are nodes that hold a session. The silence of a node counts only where it cost work: the
-- node still owns what reap() would free, or reap() freed its work lately. README.md tells why.
-- With nothing to reap nothing is paused. A pause, and what was resumed, ends when the share has
-- fallen. After setting.reap_pause_timeout nothing more can be learned, and reaping goes on.
-- locks: reap_pause (skip locked: the transaction that holds it decides the same)
create or replace function mooring_internal.update_reap_pause(
  at timestamptz,
  overdue int[]
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  setting mooring.setting;
  pause mooring_internal.reap_pause;
  -- Three variables, not one record: while the share is off nothing is counted, and reading a field
  -- of an unassigned record fails, even in a branch that is not executed.
  nodes bigint;
  silent bigint;
  owing bigint;
  too_many boolean := false;
begin
  select s.* into setting from mooring.setting s;
  select p.* into pause from mooring_internal.reap_pause p;
  if setting.reap_pause_share is not null then
    select count(*),
        count(*) filter (where n.owes or n.silent),
        count(*) filter (where n.owes)
      into nodes, silent, owing
      from (
        select h.beat_at + h.lease_ttl + setting.reap_margin < at as silent,
            h.reaped_at > h.beat_at
              and h.beat_at + 5 * h.lease_ttl + setting.reap_margin >= at as reaped_lately,
            h.node_id = any (overdue) as owes
          from mooring.heartbeat h
         where h.session is not null) n
     where not n.silent or n.owes or n.reaped_lately;
    too_many := nodes >= setting.reap_pause_min_nodes
      and silent > setting.reap_pause_share * nodes
      and (owing > 0 or pause.resumed_at is not null);
  end if;
  if too_many and pause.paused_at is null then
    update mooring_internal.reap_pause p
       set paused_at = at, reason = format('%s of %s nodes are silent', silent, nodes)
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at is null
          for update skip locked);
    if found then
      perform mooring_internal.add_event(
        'reaping_paused',
        format(
          '%s of %s nodes are silent, more than %s %%: their work is not reaped until they '
          'return%s, or an operator calls mooring.resume_reaping()',
          silent,
          nodes,
          round((100 * setting.reap_pause_share)::numeric, 1),
          ', ' || mooring_internal.format_duration(setting.reap_pause_timeout) || ' pass'),
        detail => jsonb_build_object(
          'silent', silent,
          'nodes', nodes,
          'owning', owing,
          'share', setting.reap_pause_share));
    end if;
  elsif too_many
    and pause.resumed_at is null
    and pause.paused_at + setting.reap_pause_timeout <= at
  then
    update mooring_internal.reap_pause p
       set resumed_at = at
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at = pause.paused_at and l.resumed_at is null
          for update skip locked);
    if found then
      pause.resumed_at := at;
      perform mooring_internal.add_event(
        'reaping_resumed',
        format(
          'it was paused for %s (setting.reap_pause_timeout): %s of %s nodes are silent',
          mooring_internal.format_duration(setting.reap_pause_timeout), silent, nodes),
        detail => jsonb_build_object('silent', silent, 'nodes', nodes, 'owning', owing));
    end if;
  elsif not too_many and pause.paused_at is not null then
    update mooring_internal.reap_pause p
       set paused_at = null, reason = null, resumed_at = null, resumed_by = null
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at = pause.paused_at
          for update skip locked);
    if found and pause.resumed_at is null then
      perform mooring_internal.add_event(
        'reaping_resumed',
        case
          when setting.reap_pause_share is null then 'setting.reap_pause_share is off'
          else format('%s of %s nodes are silent', silent, nodes)
        end,
        detail => case
          when setting.reap_pause_share is not null
            then jsonb_build_object('silent', silent, 'nodes', nodes)
        end);
    end if;
  end if;
  return too_many and pause.resumed_at is null;
end;
$$;
comment on function mooring_internal.update_reap_pause(timestamptz, int[]) is
  'True while so many nodes are silent that reap() frees none of their work. Writes the beginning '
  'and the end of a pause as events. at: the time by which leases are judged. '
  'overdue: the nodes that own what reap() would free.';
--! EndIncluded functions/rounds/update_reap_pause.sql
--! Included functions/rounds/work_with_nowhere_to_go.sql
-- The deployments with on_lost = 'keep' that stay with their silent nodes, because no live node
-- could take them now. Their processes run on without a lease, so a reap would only end them when
-- the node returns.
-- Work with on_lost = 'stop' has ended by then. It is freed, so that `unplaced` says why it waits.
create or replace function mooring_internal.work_with_nowhere_to_go(nodes int[]) returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  kept bigint[];
  placeable bigint[];
begin
  kept := array(
    select d.id
      from mooring.deployment d
     where d.on_lost = 'keep'
       and d.id = any (array(
         select a.deployment_id
           from mooring.assignment a
          where a.node_id = any (work_with_nowhere_to_go.nodes)
            and a.ordinal is not null
            and a.wanted = 'run')));
  if kept = '{}' then
    return kept;
  end if;
  placeable := array(
    select l.deployment_id
      from mooring_internal.eligibility_groups(kept) l
     where l.representative in (
       select e.deployment_id
         from mooring_internal.eligibility(array(
           select distinct g.representative
             from mooring_internal.eligibility_groups(kept) g)) e
        where e.eligible));
  return array(select k.id from unnest(kept) k (id) where k.id <> all (placeable));
end;
$$;
comment on function mooring_internal.work_with_nowhere_to_go(int[]) is
  'Deployments with on_lost = keep that reap() leaves on these silent nodes, because no live node '
  'could take them.';
--! EndIncluded functions/rounds/work_with_nowhere_to_go.sql
--! Included functions/rounds/reap.sql
-- reap: frees work of nodes whose lease and margin are over by the database clock.
-- Two times. Leases are judged by `at`: judged_at, or the start of the call if that is earlier.
-- `read_at`, the start of the call, only repairs beats in the future.
-- judged_at: tick() passes the time that it compared with its caller's clock. So a step of the
-- database clock between a tick and the reap it started frees nothing. A job that waited long uses
-- an old time: it finds fewer ended leases, never more. null: the start of the call.
-- What stays with its node:
--   daemons, unless they shall stop
--   work with on_lost = 'keep' that no live node could take, see work_with_nowhere_to_go()
--   all work of a node that is held, see hold_node()
--   all work while reaping is paused
-- Work of nodes without a session never stays, because those left by themselves. While such a node
-- is held, its work stays too.
-- README.md tells what each lock and each skipped row is for.
-- locks: heartbeat (skip locked), reap_pause (skip locked), then assignment (skip locked)
create or replace function mooring.reap(
  max_rows int default 10000,
  judged_at timestamptz default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  read_at timestamptz := clock_timestamp();
  at timestamptz := least(reap.judged_at, read_at);
  margin interval;
  paused boolean;
  in_hold boolean;
  -- nodes that left, and silent ones, with work that a reap may free
  overdue int[];
  -- nodes whose work waits for them, see hold_node()
  held int[];
  -- deployments whose work stays with its silent node
  stays bigint[] := '{}';
  lost bigint[];
  lost_epochs bigint[];
  lost_nodes int[];
begin
  -- A transaction that holds heartbeat rows keeps their nodes from coming back. One that holds the
  -- round keeps every caller from it.
  perform mooring_internal.limit_idle();
  select s.reap_margin into margin from mooring.setting s;
  -- the clock went back: a beat in the future would keep a silent node alive as long as the step
  update mooring.heartbeat h
     set beat_at = read_at
   where h.node_id = any (array(
     select l.node_id
       from mooring.heartbeat l
      where l.beat_at > read_at + margin
        for update skip locked));
  in_hold := mooring_internal.notice_outage();
  if in_hold then
    -- the round is done, and nothing was to do: otherwise every heartbeat would ask for a tick
    perform mooring_internal.finish_round('reap');
    return;
  end if;
  held := array(
    select n.id
      from mooring.node n
     where mooring_internal.node_is_held(n.held_until));
  -- offset 0: one index lookup for each such node, up to the first hit; as a join it would read
  -- all that each of them owns
  overdue := array(
    select h.node_id
      from mooring.heartbeat h
     where (h.session is null or h.beat_at < at - margin)
       and h.node_id <> all (held)
       and exists (
         select from mooring.assignment a
          where a.node_id = h.node_id
            and (a.ordinal is not null or a.wanted = 'stop')
            and mooring_internal.lease_end(h, a) + margin < at
         offset 0));
  if overdue <> '{}' then
    stays := mooring_internal.work_with_nowhere_to_go(overdue);
    if stays <> '{}' then
      overdue := array(
        select h.node_id
          from mooring.heartbeat h
         where h.node_id = any (overdue)
           and exists (
             select from mooring.assignment a
              where a.node_id = h.node_id
                and (a.ordinal is not null or a.wanted = 'stop')
                and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
                and mooring_internal.lease_end(h, a) + margin < at
             offset 0));
    end if;
  end if;
  paused := mooring_internal.update_reap_pause(at, overdue);
  overdue := array(
    select h.node_id
      from mooring.heartbeat h
     where h.node_id = any (overdue)
       and (h.session is null or h.beat_at < at - margin and not paused)
     order by h.node_id
       for update skip locked);
  if overdue <> '{}' then
    -- Rows are locked as they are chosen. Otherwise rows locked elsewhere would be chosen again
    -- each time, and those behind them never.
    -- + 0: the planner knows neither number in a plan that it keeps. Without it, it reads the whole
    -- table along its primary key instead of what the overdue nodes own.
    select array_agg(l.id), array_agg(l.epoch), array_agg(distinct l.node_id)
      into lost, lost_epochs, lost_nodes
      from (
        select a.id, a.epoch, a.node_id
          from mooring.assignment a
          join mooring.heartbeat h on h.node_id = a.node_id
         where a.node_id = any (overdue)
           and (a.ordinal is not null or a.wanted = 'stop')
           and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
           and mooring_internal.lease_end(h, a) + margin < at
         order by a.id + 0
         limit coalesce(max_rows, 10000)
           for update of a skip locked) l;
    return query
      select r.*
        from mooring_internal.release(
          lost, lost_epochs, 'reaped', 'the lease of its node is over') r;
    -- from now on the silence of these nodes counts, see update_reap_pause()
    update mooring.heartbeat h
       set reaped_at = read_at
     where h.node_id = any (lost_nodes);
    perform mooring_internal.note_trouble(
      lost_nodes, array_fill(0::bigint, array[coalesce(cardinality(lost_nodes), 0)]));
    if coalesce(cardinality(lost), 0) < coalesce(max_rows, 10000) then
      -- What is left is locked elsewhere. xmax is the transaction that locks the row, or a number
      -- for several of them; then all that lock rows of the table are named.
      with blocked as materialized (
        select a.xmax as locked_by, min(a.id) as id, count(*) as n
          from mooring.assignment a
          join mooring.heartbeat h on h.node_id = a.node_id
         where a.node_id = any (overdue)
           and (a.ordinal is not null or a.wanted = 'stop')
           and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
           and mooring_internal.lease_end(h, a) + margin < at
         group by a.xmax
         order by min(a.id)
         limit 5
      ),
      lock as materialized (
        select l.pid, l.transactionid, l.relation
          from pg_locks l
         where l.granted
           and l.pid is distinct from pg_backend_pid()
           and exists (select from blocked)
           and (
             l.locktype = 'transactionid' and l.mode = 'ExclusiveLock'
             or l.locktype = 'relation'
               and l.relation = 'mooring.assignment'::regclass
               and l.database = (
                 select d.oid
                   from pg_database d
                  where d.datname = current_database())
               and l.mode = 'RowShareLock')
      ),
      reported as materialized (
        select l.assignment_id, l.epoch
          from mooring.last_events(1000) l
         where l.kind = 'reap_blocked'
           and l.at > clock_timestamp() - interval '1 min'
           and exists (select from blocked)
      )
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
      select 'reap_blocked', a.id, a.deployment_id, a.node_id, n.name, a.epoch,
          case
            when w.prepared
              then 'the row is locked by a prepared transaction: see pg_prepared_xacts'
            else coalesce(
              'the row is locked by pid ' || array_to_string(w.pids, ' or '),
              'the row is locked')
          end
            || case when b.n > 1 then format(', as are %s more', b.n - 1) else '' end,
          jsonb_build_object('pid', w.pids[1], 'pids', w.pids, 'rows', b.n)
        from blocked b
        join mooring.assignment a on a.id = b.id
        join mooring.node n on n.id = a.node_id
       cross join lateral (
         select bool_or(l.transactionid = b.locked_by and l.pid is null) as prepared,
             coalesce(
               array_agg(distinct l.pid) filter (where l.transactionid = b.locked_by),
               array_agg(distinct l.pid) filter (where l.relation is not null)) as pids
           from lock l) w
       -- once a minute is enough, however long it lasts
       where (a.id, a.epoch) not in (select s.assignment_id, s.epoch from reported s);
    end if;
  end if;
  -- the round is due again when the next lease would end, if that is sooner than its period
  update mooring_internal.round r
     set due_at = least(r.due_at, n.ends_at)
    from (
      select min(h.beat_at + h.lease_ttl + margin) as ends_at
        from mooring.heartbeat h
       where h.session is not null and h.beat_at + h.lease_ttl + margin > at) n
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = 'reap' and l.due_at > n.ends_at
        for update skip locked);
  perform mooring_internal.finish_round('reap');
end;
$$;
comment on function mooring.reap(int, timestamptz) is
  'Frees assignments of nodes whose lease and margin were over at judged_at (null: now), at most '
  'max_rows, and returns them. In a hold it does nothing. While reaping is paused, because too '
  'many nodes are silent, it frees only the work of nodes that left.';
--! EndIncluded functions/rounds/reap.sql
--! Included functions/rounds/resume_reaping.sql
-- resume_reaping: an operator declares the silent nodes dead. reap() goes on in spite of their
-- number, until enough of them are back or forgotten. The next outage pauses reaping again.
-- locks: reap_pause
create or replace function mooring.resume_reaping() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  resumed text;
begin
  perform mooring_internal.limit_idle();
  update mooring_internal.reap_pause p
     set resumed_at = clock_timestamp(), resumed_by = session_user
   where p.paused_at is not null and p.resumed_at is null
  returning p.reason into resumed;
  if resumed is null then
    return false;
  end if;
  perform mooring_internal.add_event('reaping_resumed', 'an operator resumed it: ' || resumed);
  update mooring_internal.round r
     set due_at = clock_timestamp()
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = 'reap'
        for update skip locked);
  perform mooring_internal.enqueue('reap');
  return true;
end;
$$;
comment on function mooring.resume_reaping() is
  'Lets reap() free the work of the silent nodes although they are so many, until their share has '
  'fallen again. Returns false when reaping was not paused.';
--! EndIncluded functions/rounds/resume_reaping.sql
--! Included functions/rounds/move_failing.sql
-- Part of the evict round: an instance that failed setting.move_after times on its node stops there
-- and goes to another one. The node is remembered like one that refused it, so the instance does
-- not come back before its spec changes.
-- Three limits keep a broken release from touring the fleet: it moves three times at most, only
-- where another node could take it, and ten instances a round.
-- locks: assignment (skip locked)
create or replace function mooring_internal.move_failing() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  after int;
  moved int;
begin
  select s.move_after into after
    from mooring.setting s;
  if after is null
     or not exists (
       select from mooring_internal.node_trouble t
        where t.deployment_id > 0)
  then
    return 0;
  end if;
  with failing as materialized (
    select a.id, a.deployment_id, a.node_id, a.refused_by,
        greatest(r.restarts, case when r.state = 'failed' then t.times end) as times
      from mooring_internal.node_trouble t
      join mooring.assignment a on a.node_id = t.node_id and a.deployment_id = t.deployment_id
      join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
     where a.wanted = 'run'
       and a.ordinal is not null
       and a.handover is null
       and cardinality(a.refused_by) < 3
       and r.state in ('backoff', 'failed')
       and greatest(r.restarts, case when r.state = 'failed' then t.times end) >= after
  ),
  groups as materialized (
    select l.deployment_id, l.representative
      from mooring_internal.eligibility_groups(
        (select array_agg(distinct f.deployment_id) from failing f)) l
  ),
  fit as materialized (
    select e.deployment_id, e.node_id
      from mooring_internal.eligibility(
        (select array_agg(distinct g.representative) from groups g)) e
     where e.eligible
  ),
  locked as materialized (
    select a.id, f.times
      from failing f
      join mooring.assignment a on a.id = f.id
      join groups g on g.deployment_id = f.deployment_id
     where a.wanted = 'run'
       and a.node_id = f.node_id
       and exists (
         select from fit t
          where t.deployment_id = g.representative
            and t.node_id <> f.node_id
            and t.node_id <> all (f.refused_by))
     order by a.id
     limit 10
       for no key update of a skip locked
  ),
  stopping as (
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = format('it failed %s times on this node', l.times),
           move_to = null,
           move_reason = null,
           refused_by = array_append(a.refused_by, a.node_id),
           signature = mooring_internal.queue_signature(
             d.signature, array_append(a.refused_by, a.node_id))
      from locked l
     cross join mooring.deployment d
     where a.id = l.id and d.id = a.deployment_id and a.node_id <> all (a.refused_by)
    returning a.*
  ),
  logged as (
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select 'stop_wanted', s.id, s.deployment_id, s.node_id, n.name, s.epoch,
        s.stop_reason || ': another one takes it',
        (select mooring_internal.actor())
      from stopping s
      left join mooring.node n on n.id = s.node_id
     order by s.id
  )
  select count(*) into moved from stopping s;
  return moved;
end;
$$;
comment on function mooring_internal.move_failing() is
  'Orders the stop of instances that fail again and again where another node could take them; '
  'returns how many.';
--! EndIncluded functions/rounds/move_failing.sql
--! Included functions/rounds/evict.sql
-- evict: stops work that is no longer permitted where it runs, because trust, selector, pin,
-- drivers or URLs changed. The owner stops it and reports; only then is it placed elsewhere.
-- What the agent is not trusted to run, or has no driver for, stops at once. Of the rest, a replica
-- that runs stops only where another node could take it, and within the budget of its deployment.
-- So an edit that no node fulfils leaves what runs. Event stop_postponed says so, and the round
-- asks again.
-- Triggers call it for the edited deployments and nodes. The round calls it for all, because a
-- claim that began before an edit was committed could not know of the edit.
-- The round also repairs what no trigger saw: missing assignments and daemons, and node loads.
-- locks: deployment, then assignment (both skip locked), then placement (tried, and only to recount
--   loads)
create or replace function mooring.evict(
  deployments bigint[] default null,
  nodes int[] default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
begin
  -- only as a round: a trigger's call leaves the transaction of the edit as it is
  if evict.deployments is null and evict.nodes is null then
    perform mooring_internal.limit_idle();
    perform mooring_internal.forget_stopped_names();
  end if;
  return query
    with owned as materialized (
      select a.signature, a.node_id, min(a.deployment_id) as deployment_id
        from mooring.assignment a
       where a.node_id is not null
         and a.wanted = 'run'
         and (evict.deployments is null or a.deployment_id = any (evict.deployments))
         and (evict.nodes is null or a.node_id = any (evict.nodes))
       group by a.signature, a.node_id
    ),
    groups as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct o.deployment_id) from owned o)) l
    ),
    fit as materialized (
      select e.*
        from mooring_internal.eligibility(
            (select array_agg(distinct l.representative) from groups l)) e
    ),
    not_permitted as materialized (
      select o.signature, o.node_id, mooring_internal.reason_not_permitted(e) as reason,
          not (e.trust_ok and e.driver_ok) as at_once,
          exists (
            select from fit f
             where f.deployment_id = l.representative and f.eligible) as has_place
        from owned o
        join groups l on l.deployment_id = o.deployment_id
        join fit e on e.deployment_id = l.representative and e.node_id = o.node_id
       where not e.permitted
    ),
    locked as materialized (
      select a.id, o.reason, o.has_place,
          o.at_once
            or a.ordinal is null
            or a.handover is not null
            or not exists (
              select from mooring.run r
               where r.assignment_id = a.id and r.epoch = a.epoch and r.state = 'running')
            as at_once
        from mooring.assignment a
        join not_permitted o on o.signature = a.signature and o.node_id = a.node_id
       where a.wanted = 'run'
         and (evict.deployments is null or a.deployment_id = any (evict.deployments))
         for no key update of a skip locked
    ),
    allowed as materialized (
      select mooring_internal.within_budget(
            (select array_agg(b.id order by b.id) from locked b where b.has_place)) as ids
    ),
    evicted as (
      update mooring.assignment a
         set wanted = 'stop', stop_reason = l.reason, move_reason = null
        from locked l
       where a.id = l.id
         and a.wanted = 'run'
         and (
           l.at_once
           or a.id in (select u.id from allowed w cross join unnest(w.ids) u (id)))
      returning a.*
    ),
    postponed as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select 'stop_postponed', a.id, a.deployment_id, a.node_id, n.name, a.epoch,
          l.reason || case
            when l.has_place then ': it runs on until another replica is available'
            else ': it runs on, because no other node can take it'
          end,
          (select mooring_internal.actor())
        from locked l
        join mooring.assignment a on a.id = l.id
        left join mooring.node n on n.id = a.node_id
       -- once for each edit, not for each round
       where evict.deployments is not null or evict.nodes is not null
         and not exists (select from evicted e where e.id = l.id)
       order by a.id
    ),
    logged as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select 'stop_wanted', e.id, e.deployment_id, e.node_id, n.name, e.epoch, e.stop_reason,
          (select mooring_internal.actor())
        from evicted e
        left join mooring.node n on n.id = e.node_id
       order by e.id
    )
    select e.* from evicted e;
  if evict.deployments is null and evict.nodes is null then
    perform mooring_internal.move_failing();
    perform mooring_internal.forget_trouble();
    perform mooring_internal.mend_assignments();
    perform mooring_internal.make_daemons();
    -- a daemon that was made while its node was being deleted has no agent that could stop it
    delete from mooring.assignment a
     where a.ordinal is null
       and not exists (select from mooring.node n where n.id = a.node_id);
    perform mooring_internal.recount_loads();
    perform mooring_internal.finish_round('evict');
  end if;
end;
$$;
comment on function mooring.evict(bigint[], int[]) is
  'Orders the stop of work that is no longer permitted on its node, and returns those assignments. '
  'deployments and nodes narrow it. Without both it is the evict round, and also makes missing '
  'assignments and daemons and recounts loads.';
--! EndIncluded functions/rounds/evict.sql
--! Included functions/rounds/tick.sql
-- tick: the metronome. Every worker process calls it and sleeps for next_ms. The database lets one
-- caller through for each round that is due. That caller queues the round's job.
-- With inline it runs the round itself, and so it does where the queue of notifications is half
-- full. Agents pass inline when a heartbeat's answer says that rounds are overdue, so placement and
-- failover go on with no worker alive.
-- A worker is dead when it has not ticked for three periods and three seconds. Its graphile-worker
-- locks are freed here; otherwise they would last four hours.
-- The answer carries the database clock. The next tick gives it back with the milliseconds since
-- then on the caller's own clock, so a step of the database clock is noticed.
-- An agent's role ticks only inline, and only as the agent of one of its nodes. While a living
-- worker does the rounds in time, its tick changes nothing. So a stolen agent cannot hold the
-- placement lock. While a worker lives the agent's clock is not believed either, because workers
-- have clocks of their own.
-- locks: worker, round, what the rounds lock, pulse (each skip locked)
create or replace function mooring.tick(
  worker text,
  pool_ids text[] default '{}',
  inline boolean default false,
  last_clock_ms float8 default null,
  since_ms float8 default null
) returns table (rounds text[], next_ms int, hold boolean, clock_ms float8)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- read first, near to when the caller sent it; the reap of this round judges by this very time
  at timestamptz := clock_timestamp();
  period interval := mooring_internal.round_interval('reap');
  in_hold boolean;
  won text[];
  name text;
  dead_pool_ids text[];
  believed boolean := true;
begin
  if not mooring_internal.is_schema_owner() then
    if inline is not true
      or not exists (
        select from mooring.heartbeat h
         where h.role_name = session_user
           and tick.worker in (h.node, 'agent ' || h.node)
           and mooring_internal.node_is_live(h))
    then
      raise exception using
        errcode = 'MR009',
        message = format('role %s may not tick as %s', session_user, left(tick.worker, 70)),
        hint = 'An agent ticks with inline => true, as the node whose lease it holds. '
          'Workers connect as the owner of the schema.';
    end if;
    believed := not exists (
      select from mooring_internal.worker w
       where mooring_internal.worker_is_alive(w));
    if not believed
      and not exists (
        select from mooring_internal.round r
         where r.name in ('reap', 'place') and mooring_internal.round_is_overdue(r))
    then
      in_hold := mooring_internal.notice_outage();
      return query
        select '{}'::text[],
            greatest(20, mooring_internal.milliseconds(period)),
            in_hold,
            extract(epoch from at)::float8 * 1000;
      return;
    end if;
  end if;
  if believed then
    perform mooring_internal.notice_clock_step(tick.last_clock_ms, tick.since_ms, at);
  end if;
  in_hold := mooring_internal.notice_outage();
  perform mooring_internal.limit_idle();
  if not inline then
    update mooring_internal.worker w
       set ticked_at = clock_timestamp(), pool_ids = tick.pool_ids
     where w.id = tick.worker;
    if not found then
      insert into mooring_internal.worker (id, pool_ids)
      values (tick.worker, tick.pool_ids)
      on conflict (id) do nothing;
    end if;
    with gone as (
      delete from mooring_internal.worker w
       where w.id in (
         select l.id
           from mooring_internal.worker l
          where not mooring_internal.worker_is_alive(l)
            for update skip locked)
      returning w.id, w.pool_ids
    ),
    logged as (
      insert into mooring.event (kind, reason, detail)
      select 'worker_lost', 'it has not ticked for three periods',
          jsonb_build_object('worker', g.id)
        from gone g
    )
    select array_agg(p.id) into dead_pool_ids
      from gone g
     cross join lateral unnest(g.pool_ids) p (id);
    if dead_pool_ids is not null then
      perform mooring_jobs.force_unlock_workers(dead_pool_ids);
    end if;
  end if;
  with due as (
    select r.name
      from mooring_internal.round r
     where r.due_at <= at
        or r.due_at > clock_timestamp() + mooring_internal.round_interval(r.name)
        -- A worker may queue the round in time again and again, for a runner that does nothing.
        -- An inline caller therefore goes by what was done.
        or inline and mooring_internal.round_is_overdue(r)
     order by r.name = 'reap' desc, r.name
       for update skip locked
  ),
  won_rounds as (
    update mooring_internal.round r
       set due_at = clock_timestamp() + mooring_internal.round_interval(r.name)
      from due d
     where r.name = d.name
    returning r.name
  )
  select array_agg(t.name order by t.name <> 'reap', t.name <> 'evict', t.name) into won
    from won_rounds t;
  -- a queued job comes with a notification, which must not fail the tick
  inline := inline or not mooring_internal.may_notify();
  foreach name in array coalesce(won, '{}') loop
    begin
      if not inline then
        perform mooring_jobs.add_job(
          name,
          case when name = 'reap' then json_build_object('judged_at', at) end,
          job_key => 'round:' || name,
          job_key_mode => 'preserve_run_at',
          max_attempts => 1);
      else
        case name
          when 'reap' then perform mooring.reap(judged_at => at);
          when 'evict' then perform mooring.evict();
          -- bounded: all of it is one transaction, and a caller that misses its deadline would have
          -- done nothing
          when 'place' then
            perform mooring.claim((select 10 * s.claim_window from mooring.setting s));
          when 'prune' then perform mooring.prune_events();
        end case;
      end if;
    exception when others then
      perform mooring_internal.add_event(
        'round_failed', format('round %s failed: %s', name, sqlerrm));
    end;
  end loop;
  -- last: rounds that take long keep no other caller from writing the pulse, and make it no older
  update mooring_internal.pulse p
     set pulse_at = clock_timestamp()
   where p.only_row = (
     select l.only_row
       from mooring_internal.pulse l
      where l.pulse_at is null
         or l.pulse_at < clock_timestamp() - period / 4
         or l.pulse_at > clock_timestamp()
        for update skip locked);
  -- a round that is still due is in another caller's hands
  return query
    select coalesce(won, '{}'),
        greatest(
          20,
          mooring_internal.milliseconds(
            coalesce(
              min(r.due_at) filter (where r.due_at > clock_timestamp()),
              clock_timestamp() + period)
            - clock_timestamp())),
        in_hold,
        extract(epoch from at)::float8 * 1000
      from mooring_internal.round r;
end;
$$;
comment on function mooring.tick(text, text[], boolean, float8, float8) is
  'Sign of life of a worker, and the start of due rounds: queued as jobs, or run at once with '
  'inline. Returns the rounds won, the milliseconds until the next round is due, whether there is '
  'a hold, and the database clock in milliseconds since 1970. The next tick gives that clock back '
  'as last_clock_ms, with since_ms, the milliseconds that have passed since.';
--! EndIncluded functions/rounds/tick.sql
--! Included functions/rounds/end_worker.sql
-- end_worker: a worker that was stopped and has given its jobs back says so. Otherwise the others
-- would find it silent, and tell of a loss.
-- locks: worker
create or replace function mooring_internal.end_worker(worker text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  perform mooring_internal.limit_idle();
  delete from mooring_internal.worker w
   where w.id = end_worker.worker;
  if found then
    insert into mooring.event (kind, reason, detail)
    values ('worker_ended', 'it was stopped', jsonb_build_object('worker', end_worker.worker));
  end if;
end;
$$;
comment on function mooring_internal.end_worker(text) is
  'The orderly end of a worker, after its jobs: it is no longer expected to tick.';
--! EndIncluded functions/rounds/end_worker.sql

-- nodes: hosts by name
--! Included functions/nodes/agent_command.sql
-- The command that starts a node's agent as it was started last: what it said of itself then.
create or replace function mooring_internal.agent_command(node text) returns text
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select concat_ws(
      ' ',
      'mooring agent --name ' || agent_command.node,
      (
        select '--trust ' || chr(39) || replace(n.trusts, chr(39), '''\''''') || chr(39)
          from mooring.node n
         where n.name = agent_command.node),
      (
        select '--allow-exec'
          from mooring.node n
         where n.name = agent_command.node and n.drivers @> '{exec}'));
end;
comment on function mooring_internal.agent_command(text) is
  'The command that starts an agent with the options that this node had last.';
--! EndIncluded functions/nodes/agent_command.sql
--! Included functions/nodes/check_trust_pattern.sql
-- A trust pattern is read twice: by Postgres in the claim and by JavaScript in the agent. It may
-- use only what both read alike: literals, . | ( ) (?: [ ] ^ $ * + ? {m,n}, and escapes of
-- punctuation or \d \w \s. Everything else is rejected by name.
create or replace function mooring_internal.check_trust_pattern(pattern text) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  fault text;
  -- with a letter for each escaped character
  bare text := regexp_replace(pattern, '\\.', 'x', 'g');
begin
  if pattern is null then
    return;
  end if;
  fault := case
    when length(pattern) > 1000 then 'it is longer than 1000 characters'
    when pattern ~ '[^ -~]' then 'it has a character that is not printable ASCII'
    when pattern ~ '^[*][*][*]' then 'it starts with ***'
    when bare ~ '[(][?]([^:]|$)'
      then 'of the groups (? only (?: is read alike by Postgres and JavaScript'
    when bare ~ '\[\^?\]'
      then 'Postgres reads [] and [^] as the beginning of a set, JavaScript as an empty one'
    when bare ~ '\[\^?[^]]*\[[:.=]' then 'it has a [: [. or [= class'
    when pattern ~ '\\([A-Za-z0-9]|$)'
      and regexp_replace(pattern, '\\(\\|[^A-Za-z0-9]|[dwsDWS])', '', 'g') ~ '\\'
      then 'of the escapes only \d \w \s \D \W \S and punctuation '
        'are read alike by Postgres and JavaScript'
  end;
  if fault is null then
    begin
      perform 'x@1' ~ pattern;
    exception when others then
      fault := sqlerrm;
    end;
  end if;
  if fault is not null then
    raise exception using
      errcode = 'MR007',
      message = format('trust pattern %s cannot be used: %s', quote_literal(pattern), fault),
      hint = 'Write a plain regular expression on name@version, '
        'for example ^@acme/ or ^(http-server|serve)@.';
  end if;
end;
$$;
comment on function mooring_internal.check_trust_pattern(text) is
  'Raises MR007 where Postgres and JavaScript would not read a trust pattern alike.';
--! EndIncluded functions/nodes/check_trust_pattern.sql
--! Included functions/nodes/raise_no_such_node.sql
-- The error for a mistyped name gives the nearest names. Two names are alike when they share many
-- pairs of neighbouring letters. That finds swapped, missing and added letters, needs no extension,
-- and is one pass over the names.
create or replace function mooring_internal.raise_no_such_node(name text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  typed text[] := mooring_internal.letter_pairs(raise_no_such_node.name);
  nearest text;
begin
  if raise_no_such_node.name is null then
    raise exception using
      errcode = 'MR007',
      message = 'the name of a node is missing',
      hint = 'See mooring.node_status for the names there are.';
  end if;
  select string_agg(c.name, ', ' order by c.alike desc, c.name) into nearest
    from (
      select n.name,
          2.0
            * cardinality(array(
              select unnest(mooring_internal.letter_pairs(n.name))
              intersect
              select unnest(typed)))
            / nullif(
              cardinality(mooring_internal.letter_pairs(n.name)) + cardinality(typed), 0) as alike
        from mooring.node n
       order by 2 desc, n.name
       limit 3) c;
  raise exception using
    errcode = 'MR003',
    message = format('there is no node %s', raise_no_such_node.name),
    hint = coalesce(
      'The nearest names are ' || nearest || '.',
      'No node has registered yet: start an agent.');
end;
$$;
comment on function mooring_internal.raise_no_such_node(text) is
  'Raises MR003 with the nearest names; MR007 where the name is null.';
--! EndIncluded functions/nodes/raise_no_such_node.sql
--! Included functions/nodes/node_named.sql
create or replace function mooring_internal.node_named(name text) returns mooring.node
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node mooring.node;
begin
  select n.* into node
    from mooring.node n
   where n.name = node_named.name;
  if node.id is null then
    perform mooring_internal.raise_no_such_node(node_named.name);
  end if;
  return node;
end;
$$;
comment on function mooring_internal.node_named(text) is
  'The node of that name; raises MR003 with the nearest names where there is none.';
--! EndIncluded functions/nodes/node_named.sql
--! Included functions/nodes/check_node_name.sql
-- The rule of the constraints node_name_is_a_plain_word and deployment_pinned_node_is_a_node_name,
-- with a way out in its message. The constraints spell the rule out instead of calling this: every
-- role that may insert would need the right to execute what they call.
create or replace function mooring_internal.check_node_name(name text) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if name is null or length(name) > 63 or name !~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' then
    raise exception using
      errcode = 'MR007',
      message = format(
        '%s cannot be the name of a node', coalesce(quote_literal(name), 'null')),
      hint = 'Use 1 to 63 letters, digits, dots, underscores and hyphens, '
        'beginning with a letter or digit.';
  end if;
end;
$$;
comment on function mooring_internal.check_node_name(text) is
  'Raises MR007 for what cannot be the name of a node.';
--! EndIncluded functions/nodes/check_node_name.sql
--! Included functions/nodes/with_labels.sql
create or replace function mooring_internal.with_labels(labels jsonb, changes jsonb) returns jsonb
  language sql immutable parallel safe
return case
  when with_labels.changes is null then with_labels.labels
  else jsonb_strip_nulls(with_labels.labels || with_labels.changes)
end;
comment on function mooring_internal.with_labels(jsonb, jsonb) is
  'The labels with the changes: a key is added or changed, and one with the value null is taken '
  'away.';
--! EndIncluded functions/nodes/with_labels.sql
--! Included functions/nodes/upsert_node.sql
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
--! EndIncluded functions/nodes/upsert_node.sql
--! Included functions/nodes/set_node_enabled.sql
-- set_node_enabled: a disabled node keeps what it runs and gets nothing new. An unknown name is an
-- error that gives the nearest ones.
-- locks: node
create or replace function mooring.set_node_enabled(name text, enabled boolean)
  returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(set_node_enabled.name);
begin
  if set_node_enabled.enabled is null then
    raise exception using
      errcode = 'MR007',
      message = 'enabled is null',
      hint = 'Give true or false.';
  end if;
  perform mooring_internal.limit_idle();
  update mooring.node n
     set enabled = set_node_enabled.enabled
   where n.id = node.id and n.enabled <> set_node_enabled.enabled;
  return mooring_internal.node_named(set_node_enabled.name);
end;
$$;
comment on function mooring.set_node_enabled(text, boolean) is
  'Opens a node for new work, or closes it; what runs there stays. Returns the node.';
--! EndIncluded functions/nodes/set_node_enabled.sql
--! Included functions/nodes/hold_node.sql
-- hold_node: the work of a node waits for it, for so long at most: for a host that is rebooted on
-- purpose. The node keeps what it owns while its agent is away, and nothing of it runs elsewhere.
-- It gets no new work meanwhile.
-- The hold ends when the agent starts again, after `duration`, or with a duration of 0. Then the
-- work goes elsewhere like that of any silent node. Called again it counts from now.
-- locks: node
create or replace function mooring.hold_node(name text, duration interval) returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(hold_node.name);
  until timestamptz;
begin
  if hold_node.duration is null or hold_node.duration not between interval '0' and interval '7 days'
  then
    raise exception using
      errcode = 'MR007',
      message = format('a node is not held for %s', coalesce(hold_node.duration::text, 'null')),
      hint = 'Give the time a reboot may take: 10 minutes, at most 7 days; 0 ends the hold.';
  end if;
  perform mooring_internal.limit_idle();
  if hold_node.duration > interval '0' then
    until := clock_timestamp() + hold_node.duration;
  end if;
  update mooring.node n
     set held_until = until
   where n.id = node.id
     and n.held_until is distinct from until;
  if until is not null then
    perform mooring_internal.add_event(
      'node_held',
      format('its work waits for it, for %s at most', hold_node.duration),
      node.id,
      jsonb_build_object('until', until));
  elsif found and node.held_until > clock_timestamp() then
    perform mooring_internal.add_event('node_hold_ended', 'by an operator', node.id);
  end if;
  return mooring_internal.node_named(hold_node.name);
end;
$$;
comment on function mooring.hold_node(text, interval) is
  'Lets the work of a node wait for it while its host reboots, for so long at most. Returns the '
  'node.';
--! EndIncluded functions/nodes/hold_node.sql
--! Included functions/nodes/forget_node.sql
-- forget_node: deletes a node and its heartbeat row; its daemons end with it. It is refused while
-- the node's agent lives or the node owns work, because processes would run on without an owner.
-- History keeps the name.
-- locks: placement, then node, then heartbeat
create or replace function mooring.forget_node(name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node;
  beat mooring.heartbeat;
  owned int;
begin
  perform mooring_internal.lock_placement(must_wait => true);
  select n.* into node
    from mooring.node n
   where n.name = forget_node.name
     for update;
  if node.id is null then
    perform mooring_internal.raise_no_such_node(forget_node.name);
  end if;
  -- an agent that registers at this moment waits for this lock, and comes back as a new node
  select h.* into beat
    from mooring.heartbeat h
   where h.node_id = node.id
     for update;
  select count(*) into owned
    from mooring.assignment a
   where a.node_id = node.id and a.ordinal is not null;
  if mooring_internal.node_is_live(beat) then
    raise exception using
      errcode = 'MR006',
      message = format('node %s is live', node.name),
      hint = case
        when owned > 0 then format(
          'Drain it: select * from mooring.drain_node(%L), or mooring drain %s --wait; '
          'then stop its agent.',
          node.name, node.name)
        else 'Stop its agent.'
      end;
  elsif owned > 0 then
    raise exception using
      errcode = 'MR006',
      message = format('node %s owns %s assignments', node.name, owned),
      hint = 'Wait until its lease and the margin are over: then they are placed elsewhere.';
  end if;
  delete from mooring.node n
   where n.id = node.id;
end;
$$;
comment on function mooring.forget_node(text) is
  'Deletes a node that is not live and owns nothing, and its heartbeat with it.';
--! EndIncluded functions/nodes/forget_node.sql
--! Included functions/nodes/forget_trouble.sql
-- Part of the evict round: what was quiet for six times setting.trouble_memory is forgotten, and so
-- is what concerns a node or deployment that is gone.
-- locks: node_trouble (skip locked)
create or replace function mooring_internal.forget_trouble() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.node_trouble t
   where (t.node_id, t.deployment_id) in (
     select l.node_id, l.deployment_id
       from mooring_internal.node_trouble l
      cross join mooring.setting s
      where l.last_at
          < clock_timestamp() - 6 * coalesce(s.trouble_memory, interval '10 min')
         or not exists (select from mooring.node n where n.id = l.node_id)
         or l.deployment_id > 0
           and not exists (select from mooring.deployment d where d.id = l.deployment_id)
        for update of l skip locked);
end;
comment on function mooring_internal.forget_trouble() is
  'Forgets what failed on nodes long ago.';
--! EndIncluded functions/nodes/forget_trouble.sql

-- agent: the verbs an agent calls
--! Included functions/agent/server_identity.sql
-- Which server answers. An agent asks with each answer that gives it a right: once a server of a
-- newer timeline has answered, one of an older timeline is deposed, and its answers count nothing.
create or replace function mooring.server_identity(
  out system_identifier text,
  out database_oid text,
  out port int,
  out timeline int,
  out standby boolean
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  system_identifier := mooring_internal.system_identifier()::text;
  database_oid := (select d.oid::text from pg_database d where d.datname = current_database());
  port := current_setting('port')::int;
  timeline := mooring_internal.timeline();
  standby := pg_is_in_recovery();
end;
$$;
comment on function mooring.server_identity() is
  'Which server answers: the number of its cluster, the database, the port, its timeline, and '
  'whether it is a standby. '
  'Null where the server does not tell.';
--! EndIncluded functions/agent/server_identity.sql
--! Included functions/agent/node_channel.sql
create or replace function mooring_internal.node_channel(node_id int) returns text
  language sql immutable parallel safe
return 'mooring_node_' || node_id::text;
comment on function mooring_internal.node_channel(int) is
  'Channel that the agent of a node listens on. A notification is a hint: read assignments_of() '
  'again.';
--! EndIncluded functions/agent/node_channel.sql
--! Included functions/agent/notify_nodes.sql
-- One hint per node and transaction: Postgres folds equal notifications of a transaction into one.
create or replace function mooring_internal.notify_nodes(node_ids int[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if not mooring_internal.may_notify() then
    return;
  end if;
  perform pg_notify(mooring_internal.node_channel(n.id), '')
    from (
      select distinct u.id
        from unnest(notify_nodes.node_ids) u (id)
       where u.id is not null) n;
end;
$$;
comment on function mooring_internal.notify_nodes(int[]) is
  'Sends the agents of these nodes a hint to read what they own.';
--! EndIncluded functions/agent/notify_nodes.sql
--! Included functions/agent/raise_session_over.sql
create or replace function mooring_internal.raise_session_over(node text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  holder mooring.heartbeat;
begin
  select h.* into holder
    from mooring.heartbeat h
   where h.node = raise_session_over.node;
  if holder.node_id is not null then
    if not mooring_internal.acts_for(holder.role_name) then
      perform mooring_internal.raise_not_your_node(raise_session_over.node);
    end if;
    raise exception using
      errcode = 'MR001',
      message = format('this session of node %s is over', raise_session_over.node),
      hint = 'Stop what it runs, then register a new session.';
  end if;
  if not mooring_internal.is_schema_owner() then
    -- an agent must not learn the names of other nodes
    raise exception using
      errcode = 'MR003',
      message = format('there is no node %s', left(raise_session_over.node, 63)),
      hint = 'Register it first.';
  end if;
  perform mooring_internal.raise_no_such_node(raise_session_over.node);
end;
$$;
comment on function mooring_internal.raise_session_over(text) is
  'Raises MR009 for a node of another role, MR001 for a session that no longer holds the name. '
  'Raises MR003 for a node that does not exist.';
--! EndIncluded functions/agent/raise_session_over.sql
--! Included functions/agent/node_of_session.sql
-- Every verb of an agent asks which node this is, whether it is the caller's, and whether the
-- session still holds it. The function reads heartbeat alone, because no change of node may stop a
-- beat. Triggers keep the role in heartbeat too.
create or replace function mooring_internal.node_of_session(node text, session uuid) returns int
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  node_id int;
  allowed boolean;
begin
  select h.node_id, mooring_internal.acts_for(h.role_name) into node_id, allowed
    from mooring.heartbeat h
   where h.node = node_of_session.node and h.session = node_of_session.session;
  if allowed is not true then
    perform mooring_internal.raise_session_over(node);
  end if;
  return node_id;
end;
$$;
comment on function mooring_internal.node_of_session(text, uuid) is
  'Id of the node whose name this session holds; raises MR001, MR003 or MR009 otherwise.';
--! EndIncluded functions/agent/node_of_session.sql
--! Included functions/agent/register_node.sql
-- register_node: a new session gets a node's name. It is accepted when no session is live, or when
-- it replaces the live one by its uuid. Otherwise MR002 gives the milliseconds until the name is
-- free: the end of the longest lease under which the old session may still run something, and the
-- margin, as reap() waits for it.
-- What the agent states of itself (trusts, drivers, version, containment) is stored as given.
-- What operators edit too (labels, max_assignments, URLs) is stored only when given.
-- What it refused is offered to it again when what it states has changed.
-- A new session ends the hold of its node, see hold_node().
-- Work that the node owned stays owned: the new session finds it in assignments_of().
-- The name is bound to the role that registers it first. Another role is refused (MR009) before
-- anything is read or locked, and once more under the lock of the heartbeat row. The owner of the
-- schema may register any name, and binds a name that has no role.
-- locks: node, then heartbeat
create or replace function mooring.register_node(
  node text,
  session uuid,
  trusts text default null,
  drivers text[] default '{npm}',
  labels jsonb default null,
  max_assignments int default null,
  agent_base_url text default null,
  gateway_base_url text default null,
  replaces uuid default null,
  version text default null,
  containment text default null
) returns table (
    node_id int,
    beat_interval_ms int,
    lease_ttl_ms int,
    reap_margin_ms int,
    channel text,
    schema_version int)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  own_node mooring.node;
  beat mooring.heartbeat;
  free_in interval;
  known record;
  -- what the agent says of itself is new
  changed boolean := false;
  hold_ended boolean := false;
begin
  perform mooring_internal.check_node_name(register_node.node);
  if register_node.session is null then
    raise exception using
      errcode = 'MR007',
      message = 'a session needs a uuid';
  end if;
  if register_node.containment not in ('pid-namespace', 'pdeathsig', 'process-group') then
    raise exception using
      errcode = 'MR007',
      message = format('%L is no containment', register_node.containment),
      hint = 'It is pid-namespace, pdeathsig, process-group, '
        'or null where the agent does not know.';
  end if;
  if length(register_node.version) > 100 or cardinality(register_node.drivers) > 10 then
    raise exception using
      errcode = 'MR007',
      message = 'a version has 100 characters at most, and an agent 10 drivers at most';
  end if;
  if not mooring_internal.is_schema_owner() then
    select n.role_name into known
      from mooring.node n
     where n.name = register_node.node;
    if known.role_name <> session_user then
      perform mooring_internal.raise_not_your_node(register_node.node);
    elsif known.role_name is null
      and not (select s.agents_may_add_nodes from mooring.setting s)
    then
      raise exception using
        errcode = 'MR009',
        message = format('no node %s is bound to role %s', register_node.node, session_user),
        hint = format(
          'setting.agents_may_add_nodes is false: an operator adds it first. '
          'See mooring role create agent --node %s.',
          register_node.node);
    end if;
  end if;
  perform mooring_internal.check_trust_pattern(register_node.trusts);
  perform mooring_internal.limit_idle();
  -- an outage is noticed while the old sessions are still visible
  perform mooring_internal.notice_outage();
  loop
    -- Looked up first: an insert that ends in a conflict uses up a number of the identity, and
    -- there are only 2^31.
    insert into mooring.node as n (
      name,
      trusts,
      drivers,
      labels,
      max_assignments,
      agent_base_url,
      gateway_base_url,
      version,
      containment,
      role_name)
    select register_node.node,
        register_node.trusts,
        register_node.drivers,
        coalesce(register_node.labels, '{}'),
        register_node.max_assignments,
        register_node.agent_base_url,
        register_node.gateway_base_url,
        register_node.version,
        register_node.containment,
        session_user
     where not exists (select from mooring.node o where o.name = register_node.node)
    on conflict (name) do nothing;
    -- node before heartbeat, as everywhere; the error that refuses a session below undoes this
    update mooring.node n
       set trusts = register_node.trusts,
           drivers = register_node.drivers,
           version = register_node.version,
           containment = register_node.containment,
           labels = coalesce(register_node.labels, n.labels),
           max_assignments = coalesce(register_node.max_assignments, n.max_assignments),
           agent_base_url = coalesce(register_node.agent_base_url, n.agent_base_url),
           gateway_base_url = coalesce(register_node.gateway_base_url, n.gateway_base_url),
           role_name = coalesce(n.role_name, session_user)
     where n.name = register_node.node
       and (
         n.trusts,
         n.drivers,
         n.version,
         n.containment,
         n.labels,
         n.max_assignments,
         n.agent_base_url,
         n.gateway_base_url,
         n.role_name
       ) is distinct from (
         register_node.trusts,
         register_node.drivers,
         register_node.version,
         register_node.containment,
         coalesce(register_node.labels, n.labels),
         coalesce(register_node.max_assignments, n.max_assignments),
         coalesce(register_node.agent_base_url, n.agent_base_url),
         coalesce(register_node.gateway_base_url, n.gateway_base_url),
         coalesce(n.role_name, session_user)
       );
    changed := changed or found;
    update mooring.node n
       set held_until = null
     where n.name = register_node.node
       and n.held_until is not null
       and not exists (
         select from mooring.heartbeat h
          where h.node = register_node.node and h.session = register_node.session);
    hold_ended := hold_ended or found;
    select n.* into own_node
      from mooring.node n
     where n.name = register_node.node;
    select h.* into beat
      from mooring.heartbeat h
     where h.node = register_node.node
       for update;
    exit when found;
    -- The node was deleted in between, or its heartbeat row was lost, because some tables were
    -- restored or triggers were switched off.
    insert into mooring.heartbeat (node_id, node, role_name)
    select n.id, n.name, n.role_name
      from mooring.node n
     where n.name = register_node.node
    on conflict do nothing;
  end loop;
  if not mooring_internal.acts_for(beat.role_name) then
    perform mooring_internal.raise_not_your_node(register_node.node);
  end if;
  select s.* into setting from mooring.setting s;
  if beat.session is not null
    and beat.session <> register_node.session
    and beat.session is distinct from register_node.replaces
  then
    free_in := beat.beat_at
      + greatest(
        beat.lease_ttl,
        (select max(a.lease_ttl) from mooring.assignment a where a.node_id = own_node.id))
      + setting.reap_margin
      - clock_timestamp();
    if free_in > interval '0' then
      raise exception using
        errcode = 'MR002',
        message = format('another live agent is called %s', register_node.node),
        detail = json_build_object('free_in_ms', ceil(extract(epoch from free_in) * 1000))::text,
        hint = format(
          'The name is free in %s s unless that agent beats again. '
          'Give this agent another name, or stop the other one.',
          round(extract(epoch from free_in)::numeric, 1));
    end if;
  end if;
  update mooring.heartbeat h
     set session = register_node.session,
         session_at = case
           when h.session = register_node.session then h.session_at
           else clock_timestamp()
         end,
         leaving = false,
         left_at = null,
         beat_at = greatest(h.beat_at, clock_timestamp()),
         lease_ttl = setting.lease_ttl
   where h.node_id = own_node.id;
  insert into mooring.event (kind, node_id, node, reason, detail)
  values (
    'node_registered',
    own_node.id,
    own_node.name,
    case
      when register_node.replaces = beat.session then 'its agent was replaced'
      else 'its agent started'
    end,
    jsonb_build_object(
      'session', register_node.session,
      'version', register_node.version,
      'containment', register_node.containment));
  if hold_ended then
    perform mooring_internal.add_event('node_hold_ended', 'its agent started', own_node.id);
  end if;
  if changed then
    perform mooring_internal.forget_refusals(own_node.id);
  end if;
  perform mooring_internal.enqueue('place');
  return query
    select own_node.id,
        mooring_internal.milliseconds(setting.beat_interval),
        mooring_internal.milliseconds(setting.lease_ttl),
        mooring_internal.milliseconds(setting.reap_margin),
        mooring_internal.node_channel(own_node.id),
        mooring.schema_version();
end;
$$;
comment on function mooring.register_node(
  text, uuid, text, text[], jsonb, int, text, text, uuid, text, text
) is
  'Gives a node''s name to a new session of its agent and returns the intervals it has to keep, in '
  'milliseconds. Raises MR002 while another session is live, MR009 where the name belongs to '
  'another role. replaces: the session that hands the name over.';
--! EndIncluded functions/agent/register_node.sql
--! Included functions/agent/heartbeat.sql
-- heartbeat: renews the lease of a node and answers with what it owns, as a digest.
-- It is two statements on purpose. The first locks the node's heartbeat row and waits for a reap
-- that holds it. The second reads the owned rows with a snapshot taken after that. One statement
-- would confirm work that was reaped while it waited, and two nodes would run it.
-- A beat extends the right to run only of what its answer confirms. An agent whose own set has
-- another digest reads assignments_of() first.
-- The time is the database's. It never goes backwards, except where the clock itself was set back
-- by more than the margin.
-- The commit does not wait for disk: a beat lost at a crash costs nothing, because a crash starts a
-- hold. With a synchronous standby it waits until that has received it. So a primary that was
-- deposed and does not know it confirms nothing: its standby follows another.
-- An impossible figure (NaN, a negative one) counts as none, because a broken sampler must not cost
-- the lease.
-- locks: heartbeat (its own row)
create or replace function mooring.heartbeat(
  node text,
  session uuid,
  cpu_pct float8 default null,
  memory_mb float8 default null,
  disk_free_pct float8 default null,
  disk_free_bytes bigint default null,
  running int default null
) returns table (
    digest text,
    owned int,
    lease_ttl_ms int,
    next_beat_ms int,
    hold boolean,
    round_overdue boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  own_id int;
  allowed boolean;
  in_hold boolean;
begin
  cpu_pct := case when heartbeat.cpu_pct between 0 and 1e6 then heartbeat.cpu_pct end;
  memory_mb := case when heartbeat.memory_mb between 0 and 1e12 then heartbeat.memory_mb end;
  disk_free_pct := case
    when heartbeat.disk_free_pct between 0 and 100 then heartbeat.disk_free_pct
  end;
  disk_free_bytes := case when heartbeat.disk_free_bytes >= 0 then heartbeat.disk_free_bytes end;
  running := case when heartbeat.running >= 0 then heartbeat.running end;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'MR008',
      message = 'a heartbeat needs isolation level read committed',
      hint = 'With another level it would confirm what is no longer owned.';
  end if;
  perform set_config(
    'synchronous_commit',
    case current_setting('synchronous_standby_names') when '' then 'off' else 'remote_write' end,
    true);
  select s.* into setting from mooring.setting s;
  perform mooring_internal.limit_idle(setting.placement_lock_timeout);
  update mooring.heartbeat h
     set beat_at = case
           when h.beat_at > clock_timestamp() + setting.reap_margin then clock_timestamp()
           else greatest(h.beat_at, clock_timestamp())
         end,
         lease_ttl = setting.lease_ttl,
         cpu_pct = coalesce(heartbeat.cpu_pct, h.cpu_pct),
         memory_mb = coalesce(heartbeat.memory_mb, h.memory_mb),
         disk_free_pct = coalesce(heartbeat.disk_free_pct, h.disk_free_pct),
         disk_free_bytes = coalesce(heartbeat.disk_free_bytes, h.disk_free_bytes),
         running = coalesce(heartbeat.running, h.running),
         sampled_at = case
           when num_nonnulls(
             heartbeat.cpu_pct,
             heartbeat.memory_mb,
             heartbeat.disk_free_pct,
             heartbeat.disk_free_bytes,
             heartbeat.running) > 0
             then clock_timestamp()
           else h.sampled_at
         end
   where h.node = heartbeat.node and h.session = heartbeat.session
  returning h.node_id, mooring_internal.acts_for(h.role_name) into own_id, allowed;
  if allowed is not true then
    perform mooring_internal.raise_session_over(heartbeat.node);
  end if;
  in_hold := mooring_internal.notice_outage();
  return query
    select mooring_internal.ownership_digest(
          array_agg(mooring_internal.ownership_line(a, d) order by a.id)),
        count(*)::int,
        mooring_internal.milliseconds(setting.lease_ttl),
        -- only leases that the agent keeps: a daemon and what is kept have none
        mooring_internal.milliseconds(least(
          setting.beat_interval,
          min(a.lease_ttl) filter (where a.ordinal is not null and d.on_lost = 'stop') / 3)),
        in_hold,
        exists (
          select from mooring_internal.round r
           where r.name in ('reap', 'place') and mooring_internal.round_is_overdue(r))
      from mooring.assignment a
      left join mooring.deployment d on d.id = a.deployment_id
     where a.node_id = own_id;
end;
$$;
comment on function mooring.heartbeat(text, uuid, float8, float8, float8, bigint, int) is
  'Renews a node''s lease. Returns the digest of what it owns, when to beat next, and whether '
  'there is a hold. round_overdue asks the agent to run the rounds. A null figure leaves the '
  'last one.';
--! EndIncluded functions/agent/heartbeat.sql
--! Included functions/agent/stop_grace_ms.sql
-- Where the deployment is gone its process still has to stop. Then the default of the column holds.
create or replace function mooring_internal.stop_grace_ms(deployment mooring.deployment) returns int
  language sql stable parallel safe
return coalesce(mooring_internal.milliseconds(deployment.stop_grace), 10000);
comment on function mooring_internal.stop_grace_ms(mooring.deployment) is
  'Time between SIGTERM and SIGKILL of its processes, in milliseconds; the default of '
  'deployment.stop_grace where the deployment is gone.';
--! EndIncluded functions/agent/stop_grace_ms.sql
--! Included functions/agent/ownership_line.sql
-- What an agent acts on, and so has to learn even where the hint is lost. on_lost and stop_grace
-- restart nothing, so they are no part of generation.
create or replace function mooring_internal.ownership_line(
  assignment mooring.assignment,
  deployment mooring.deployment
) returns text
  language sql stable parallel safe
return assignment.id
  || ':' || assignment.epoch
  || ':' || coalesce(deployment.generation, 0)
  || ':' || assignment.wanted
  || ':' || coalesce(deployment.on_lost, 'stop')
  || ':' || mooring_internal.stop_grace_ms(deployment);
comment on function mooring_internal.ownership_line(mooring.assignment, mooring.deployment) is
  'One owned assignment in the digest: id, epoch, generation, wanted, on_lost and the stop grace '
  'in milliseconds.';
--! EndIncluded functions/agent/ownership_line.sql
--! Included functions/agent/ownership_digest.sql
create or replace function mooring_internal.ownership_digest(lines text[]) returns text
  language sql stable parallel safe
return encode(sha256(convert_to(coalesce(array_to_string(lines, ','), ''), 'UTF8')), 'hex');
comment on function mooring_internal.ownership_digest(text[]) is
  'SHA-256 of the lines assignment:epoch:generation:wanted:on_lost:stop_grace_ms, in order of '
  'assignment.';
--! EndIncluded functions/agent/ownership_digest.sql
--! Included functions/agent/assignments_of.sql
-- assignments_of: the complete set that a node owns, with everything its agent needs to run it. The
-- agent reads it again after every hint and every reconnect. It reconciles the set, never a change,
-- so a lost notification costs one beat of latency and nothing else.
create or replace function mooring.assignments_of(node text, session uuid default null)
  returns table (
    assignment_id bigint,
    epoch bigint,
    deployment_id bigint,
    ordinal int,
    type text,
    generation bigint,
    wanted text,
    on_lost text,
    lease_ttl_ms int,
    stop_grace_ms int,
    package_name text,
    package_version text,
    command text,
    args jsonb,
    env jsonb)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  own_id int;
begin
  if assignments_of.session is not null then
    own_id := mooring_internal.node_of_session(assignments_of.node, assignments_of.session);
  else
    select h.node_id into own_id
      from mooring.heartbeat h
     where h.node = assignments_of.node and mooring_internal.acts_for(h.role_name);
    if own_id is null then
      perform mooring_internal.raise_session_over(assignments_of.node);
    end if;
  end if;
  return query
    select a.id,
        a.epoch,
        a.deployment_id,
        a.ordinal,
        case when a.ordinal is null then 'daemon' else 'deployment' end,
        coalesce(d.generation, 0),
        a.wanted,
        coalesce(d.on_lost, 'stop'),
        mooring_internal.milliseconds(a.lease_ttl),
        mooring_internal.stop_grace_ms(d),
        d.package_name,
        case when d.package_name is not null then d.package_version end,
        d.command,
        d.args,
        d.env
      from mooring.assignment a
      left join mooring.deployment d on d.id = a.deployment_id
     where a.node_id = own_id
     order by a.id;
end;
$$;
comment on function mooring.assignments_of(text, uuid) is
  'Everything a node owns and what to run. The spec is null where the deployment is gone and only '
  'the stop remains. '
  'session: the session that holds the name; null where a role that acts for the node only looks.';
--! EndIncluded functions/agent/assignments_of.sql
--! Included functions/nodes/note_trouble.sql
-- Notes what failed on nodes, a pair of node and deployment each. Deployment 0 stands for the node
-- itself, which was lost. Counting begins again after a quiet time of six times
-- setting.trouble_memory.
-- locks: node_trouble
create or replace function mooring_internal.note_trouble(node_ids int[], deployments bigint[])
  returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.node_trouble as t (node_id, deployment_id, last_at)
  select distinct u.node_id, u.deployment_id, clock_timestamp()
    from unnest(note_trouble.node_ids, note_trouble.deployments) u (node_id, deployment_id)
    join mooring.setting s on s.trouble_memory is not null or s.move_after is not null
   order by u.node_id, u.deployment_id
  on conflict (node_id, deployment_id) do update
     set times = case
           when t.last_at < excluded.last_at - 6 * (
             select coalesce(s.trouble_memory, interval '10 min') from mooring.setting s)
             then 1
           else t.times + 1
         end,
         last_at = excluded.last_at;
end;
comment on function mooring_internal.note_trouble(int[], bigint[]) is
  'Remembers which deployments failed on which nodes. 0: the node itself was lost.';
--! EndIncluded functions/nodes/note_trouble.sql
--! Included functions/agent/report.sql
-- report: what an agent observed, a batch at a time. A row counts only for the assignment and epoch
-- that this node owns now. A report of an old epoch changes nothing (accepted = false).
-- stopped frees an assignment that shall stop. refused frees it, and this node does not get it
-- again until the spec changes. accepted = null: the row is locked at the moment, report again.
-- locks: run, then assignment (skip locked)
create or replace function mooring.report(node text, session uuid, rows jsonb)
  returns table (assignment_id bigint, epoch bigint, accepted boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  own_id int := mooring_internal.node_of_session(report.node, report.session);
  stopped bigint[];
  stopped_epochs bigint[];
  refused bigint[];
  refused_epochs bigint[];
  freed bigint[];
  arrived boolean;
  failed bigint[];
begin
  if jsonb_typeof(report.rows) is distinct from 'array' then
    raise exception using
      errcode = 'MR007',
      message = 'a report is an array of objects';
  end if;
  if pg_column_size(report.rows) > 67108864 then
    raise exception using
      errcode = 'MR007',
      message = 'a report is larger than 64 MiB',
      hint = 'Report fewer assignments at once.';
  end if;
  perform mooring_internal.limit_idle();
  with latest as materialized (
    -- of several rows for an assignment the last one counts
    select distinct on (r.assignment_id, r.epoch) r.*
      from
        rows from (
          jsonb_to_recordset(report.rows) as (
            assignment_id bigint,
            epoch bigint,
            generation bigint,
            state text,
            pid int,
            restarts int,
            exit_code int,
            exit_signal text,
            error text,
            next_start_in_ms float8)
        ) with ordinality r
     order by r.assignment_id, r.epoch, r.ordinality desc
  ),
  current as materialized (
    select h.*, a.deployment_id, a.wanted, a.ordinal, a.move_reason
      from latest h
      join mooring.assignment a
        on a.id = h.assignment_id and a.epoch = h.epoch and a.node_id = own_id
  ),
  observed as (
    insert into mooring.run as r (
      assignment_id,
      deployment_id,
      node_id,
      epoch,
      generation,
      state,
      pid,
      restarts,
      exit_code,
      exit_signal,
      last_error,
      last_error_at,
      next_start_at,
      last_deployed_at,
      last_active_at)
    select c.assignment_id,
        c.deployment_id,
        own_id,
        c.epoch,
        coalesce(c.generation, 0),
        c.state,
        c.pid,
        coalesce(c.restarts, 0),
        c.exit_code,
        left(c.exit_signal, 40),
        left(c.error, 2000),
        case when c.error is not null then clock_timestamp() end,
        clock_timestamp() + c.next_start_in_ms * interval '1 ms',
        case when c.state = 'running' then clock_timestamp() end,
        clock_timestamp()
      from current c
     order by c.assignment_id
    on conflict (assignment_id) do update
       set deployment_id = excluded.deployment_id,
           node_id = excluded.node_id,
           epoch = excluded.epoch,
           generation = excluded.generation,
           state = excluded.state,
           pid = excluded.pid,
           restarts = excluded.restarts,
           exit_code = coalesce(
             excluded.exit_code, case when excluded.exit_signal is null then r.exit_code end),
           exit_signal = coalesce(
             excluded.exit_signal, case when excluded.exit_code is null then r.exit_signal end),
           -- an attempt that runs at last ends the errors of those before it; after a restart the
           -- error says why it was one
           last_error = case
             when excluded.last_error is not null
               or excluded.state = 'running' and excluded.restarts = 0
               then excluded.last_error
             else r.last_error
           end,
           last_error_at = case
             when excluded.last_error is not null
               or excluded.state = 'running' and excluded.restarts = 0
               then excluded.last_error_at
             else r.last_error_at
           end,
           next_start_at = excluded.next_start_at,
           last_deployed_at = case
             when excluded.state = 'running'
               and (
                 r.last_deployed_at is null
                 or (r.epoch, r.generation) is distinct from (excluded.epoch, excluded.generation)
                 or r.state in ('installing', 'starting') and r.restarts = excluded.restarts)
               then clock_timestamp()
             else r.last_deployed_at
           end,
           last_active_at = clock_timestamp()
     where excluded.epoch >= r.epoch
  )
  select array_agg(c.assignment_id) filter (where c.state = 'stopped' and c.wanted = 'stop'),
      array_agg(c.epoch) filter (where c.state = 'stopped' and c.wanted = 'stop'),
      array_agg(c.assignment_id) filter (where c.state = 'refused' and c.ordinal is not null),
      array_agg(c.epoch) filter (where c.state = 'refused' and c.ordinal is not null),
      bool_or(
        c.move_reason is not null
        and c.wanted = 'run'
        and c.state not in ('installing', 'starting')),
      array_agg(distinct c.deployment_id) filter (where c.state in ('backoff', 'failed'))
    into stopped, stopped_epochs, refused, refused_epochs, arrived, failed
    from current c;
  if failed is not null then
    perform mooring_internal.note_trouble(
      array_fill(own_id, array[cardinality(failed)]), failed);
  end if;
  if arrived then
    -- a drain goes on when what it moved runs elsewhere
    perform mooring_internal.enqueue('place');
  end if;
  select array_agg(f.id) into freed
    from (
      select a.id
        from mooring_internal.release(
          stopped, stopped_epochs, 'released', 'its processes are gone') a
      union all
      select a.id
        from mooring_internal.release(
          refused, refused_epochs, 'refused', 'the agent will not run it') a) f;
  update mooring.assignment a
     set refused_by = array_append(a.refused_by, own_id),
         signature = mooring_internal.queue_signature(
           d.signature, array_append(a.refused_by, own_id)),
         updated_at = clock_timestamp()
    from mooring.deployment d
   where a.id = any (refused)
     and a.id = any (freed)
     and d.id = a.deployment_id
     and own_id <> all (a.refused_by);
  return query
    select h.assignment_id,
        h.epoch,
        case
          when h.assignment_id = any (freed) then true
          when not exists (
            select from mooring.assignment a
             where a.id = h.assignment_id and a.epoch = h.epoch and a.node_id = own_id)
            then false
          when h.assignment_id = any (stopped) or h.assignment_id = any (refused) then null
          else true
        end
      from jsonb_to_recordset(report.rows) h (assignment_id bigint, epoch bigint);
end;
$$;
comment on function mooring.report(text, uuid, jsonb) is
  'Stores what an agent observed of its assignments and frees what has stopped or was refused. '
  'accepted is false for an old epoch, and null for a row that is locked: report it again.';
--! EndIncluded functions/agent/report.sql
--! Included functions/agent/begin_leave.sql
-- begin_leave: an agent calls it before it stops what it runs. From now on its node gets no new
-- work. Its lease goes on until the last process is gone and leave() gives everything back.
-- locks: heartbeat
create or replace function mooring.begin_leave(node text, session uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  perform mooring_internal.limit_idle();
  update mooring.heartbeat h
     set leaving = true
   where h.node = begin_leave.node
     and h.session = begin_leave.session
     and mooring_internal.acts_for(h.role_name);
  if not found then
    perform mooring_internal.raise_session_over(begin_leave.node);
  end if;
end;
$$;
comment on function mooring.begin_leave(text, uuid) is
  'The agent is stopping: no new work for its node.';
--! EndIncluded functions/agent/begin_leave.sql
--! Included functions/agent/leave.sql
-- leave: an agent that stopped all its processes gives everything back at once and gives up its
-- name. Daemons stay with the node, unless they shall stop. All that shall run stays with a node
-- that is held, see hold_node().
-- locks: heartbeat, then assignment (skip locked: what is locked is reaped when the lease is over)
create or replace function mooring.leave(node text, session uuid) returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  own_id int;
  freed int;
  held boolean;
begin
  perform mooring_internal.limit_idle();
  update mooring.heartbeat h
     set session = null, leaving = false, left_at = clock_timestamp()
   where h.node = leave.node
     and h.session = leave.session
     and mooring_internal.acts_for(h.role_name)
  returning h.node_id into own_id;
  if own_id is null then
    perform mooring_internal.raise_session_over(leave.node);
  end if;
  held := exists (
    select from mooring.node n
     where n.id = own_id and mooring_internal.node_is_held(n.held_until));
  select count(*) into freed
    from (
      select array_agg(a.id) as ids, array_agg(a.epoch) as epochs
        from mooring.assignment a
       where a.node_id = own_id
         and (a.ordinal is not null and not held or a.wanted = 'stop')) o
   cross join lateral mooring_internal.release(
     o.ids, o.epochs, 'released', 'the agent of its node left');
  perform mooring_internal.add_event(
    'node_left', 'its agent stopped', own_id, jsonb_build_object('released', freed));
  return freed;
end;
$$;
comment on function mooring.leave(text, uuid) is
  'Graceful end of an agent''s session, after its processes are gone. Frees all that the node owns '
  'and returns how many assignments that were.';
--! EndIncluded functions/agent/leave.sql

-- placement: which node gets what, and claim()
--! Included functions/placement/policies.sql
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
--! EndIncluded functions/placement/policies.sql
--! Included functions/placement/awaited_nodes.sql
-- The nodes that work which ran before waits for, after every node was away.
-- Without a wait the first agent back would get all the work, and running work never moves by
-- itself. So such work stays pending until the nodes of before are back, for at most
-- setting.return_wait after the first one came.
-- This holds for all such work, not only for what ran last on the awaited nodes: when a fleet stops
-- host by host, the last host owns everything at the end.
-- A node that was lost while another was live is not awaited.
create or replace function mooring_internal.awaited_nodes() returns int[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- the usual case, decided by the first row: some node has been live for longer than the wait
  if exists (
    select from mooring.heartbeat l
     where mooring_internal.node_is_live(l)
       and l.session_at <= clock_timestamp() - (select s.return_wait from mooring.setting s)) then
    return null;
  end if;
  return (
    select array_agg(n.id order by n.id)
      from mooring.heartbeat h
      join mooring.node n on n.id = h.node_id
     where n.enabled
       and n.draining_since is null
       and not mooring_internal.node_is_live(h)
       and h.beat_at < (
         select min(l.session_at)
           from mooring.heartbeat l
          where mooring_internal.node_is_live(l)));
end;
$$;
comment on function mooring_internal.awaited_nodes() is
  'Nodes that were gone when the first one came back, for as long as that is less than '
  'setting.return_wait ago; null at all other times.';
--! EndIncluded functions/placement/awaited_nodes.sql
--! Included functions/placement/assigned_per_node.sql
create or replace function mooring_internal.assigned_per_node()
  returns table (node_id int, assigned int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    select l.node_id, sum(l.change)::int
      from mooring_internal.node_load l
     group by l.node_id;
end;
$$;
comment on function mooring_internal.assigned_per_node() is
  'How many assignments, daemons not counted, each node owns.';
--! EndIncluded functions/placement/assigned_per_node.sql
--! Included functions/placement/assigned_and_promised_per_node.sql
-- The load that claim() may not give away again: what a node owns, and the places kept for moves
-- to it. An assignment that only restarts on its node counts once.
create or replace function mooring_internal.assigned_and_promised_per_node()
  returns table (node_id int, assigned_and_promised int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (
    select from mooring_internal.moves_under_way() m
     where m.to_node is not null) then
    return query
      select l.node_id, l.assigned from mooring_internal.assigned_per_node() l;
    return;
  end if;
  return query
    select u.node_id, sum(u.n)::int
      from (select l.node_id, l.assigned as n
              from mooring_internal.assigned_per_node() l
            union all
            select m.to_node, 1
              from mooring_internal.moves_under_way() m
             where m.to_node is not null
               and m.to_node is distinct from m.node_id) u
     group by u.node_id;
end;
$$;
comment on function mooring_internal.assigned_and_promised_per_node() is
  'How many assignments, daemons not counted, each node owns or has been promised.';
--! EndIncluded functions/placement/assigned_and_promised_per_node.sql
--! Included functions/placement/shares_of_troubled_nodes.sql
-- Nodes that get less than their weight at the moment, each with its share between 0 and 1:
--   several deployments fail there: 1 / (1 + their number); one that fails alone is at fault itself
--   the node was lost: half of it, which grows to the whole within trouble_memory after its return;
--   each further loss halves it again, to 0.05 at least, and makes the time longer, to six times
-- The share only lowers the weight. So a node that is the last one left still gets work.
create or replace function mooring_internal.shares_of_troubled_nodes() returns table (
  node_id int,
  share float8,
  failing bigint[],
  losses int
)
  language sql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select f.node_id,
      case when cardinality(f.failing) > 1 then 1.0 / (1 + cardinality(f.failing)) else 1 end
        * coalesce(f.returned, 1) as share,
      case when cardinality(f.failing) > 1 then f.failing end as failing,
      f.losses
    from (
      select t.node_id,
          array_agg(t.deployment_id order by t.deployment_id)
            filter (where t.deployment_id > 0 and t.last_at > clock_timestamp() - s.trouble_memory)
            as failing,
          max(t.times) filter (where t.deployment_id = 0) as losses,
          min(r.share) as returned
        from mooring_internal.node_trouble t
       cross join mooring.setting s
        left join mooring.heartbeat h on h.node_id = t.node_id and t.deployment_id = 0
       cross join lateral (
         select case when t.deployment_id = 0 then least(1, greatest(0.05, 0.5 ^ t.times,
             extract(epoch from clock_timestamp() - greatest(t.last_at, h.session_at))
               / extract(epoch from s.trouble_memory * least(t.times, 6))))
             end as share) r
       where s.trouble_memory is not null
       group by t.node_id) f
   where cardinality(f.failing) > 1 or f.returned < 1;
end;
comment on function mooring_internal.shares_of_troubled_nodes() is
  'Nodes on which several deployments fail, or that were lost lately, and the share of their '
  'weight that counts.';
--! EndIncluded functions/placement/shares_of_troubled_nodes.sql
--! Included functions/placement/node_states.sql
-- Every node with its load and its last sample, as policies see it. A node in trouble has less
-- weight, see shares_of_troubled_nodes().
create or replace function mooring_internal.node_states() returns setof mooring.node_state
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    select n.id, n.name,
        n.weight * coalesce(t.share, 1),
        n.max_assignments, coalesce(l.assigned_and_promised, 0),
        h.running, h.cpu_pct, h.memory_mb, h.disk_free_pct
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
      left join mooring_internal.shares_of_troubled_nodes() t on t.node_id = n.id
      left join mooring_internal.assigned_and_promised_per_node() l on l.node_id = n.id
     order by n.id;
end;
$$;
comment on function mooring_internal.node_states() is 'What policies know of each node.';
--! EndIncluded functions/placement/node_states.sql
--! Included functions/placement/fold_node_load.sql
-- node_load grows by a row for every change. The placing transaction folds it once it is longer
-- than a few rows per node. The DELETE does not see concurrent appends, so they stay.
-- locks: only the rows it folds; call it under the placement lock
create or replace function mooring_internal.fold_node_load() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- most claims find nothing to fold, and need a thousand rows at most to see it
  if exists (select from mooring_internal.node_load l offset 1000)
     and (select count(*) from mooring_internal.node_load)
       > 1000 + 2 * (select count(*) from mooring.node) then
    with folded as (
      delete from mooring_internal.node_load l
      returning l.node_id, l.change
    )
    insert into mooring_internal.node_load (node_id, change)
    select f.node_id, sum(f.change)
      from folded f
     group by f.node_id
    having sum(f.change) <> 0;
  end if;
end;
$$;
comment on function mooring_internal.fold_node_load() is
  'Sums node_load up to one row per node once it has grown.';
--! EndIncluded functions/placement/fold_node_load.sql
--! Included functions/placement/inconsistent_loads.sql
-- One transaction changes an owner and node_load together. So within one snapshot no change that
-- is under way makes the two differ.
-- locks: none
create or replace function mooring_internal.inconsistent_loads()
  returns table (node_id int, kept int, counted int)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    select coalesce(l.node_id, c.node_id), coalesce(l.assigned, 0), coalesce(c.assigned, 0)
      from mooring_internal.assigned_per_node() l
      full join (
             select a.node_id, count(*)::int as assigned
               from mooring.assignment a
              where a.node_id is not null and a.ordinal is not null
              group by a.node_id) c on c.node_id = l.node_id
     where coalesce(l.assigned, 0) <> coalesce(c.assigned, 0);
end;
$$;
comment on function mooring_internal.inconsistent_loads() is
  'Nodes whose load in node_load (kept) is not the number of assignments they own (counted); '
  'the evict round mends them.';
--! EndIncluded functions/placement/inconsistent_loads.sql
--! Included functions/placement/recount_loads.sql
-- Triggers keep node_load. A change that bypassed them would make a node look full, or empty, for
-- ever: a TRUNCATE or a restore of the table, edits under session_replication_role = replica.
-- The difference is appended, as every change is. The placement lock is needed because two
-- recounts at once would both append it, and a claim would place by wrong loads meanwhile.
-- The lock is tried, not waited for, because the round already holds assignment rows.
-- locks: placement (tried)
create or replace function mooring_internal.recount_loads() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  mended int;
begin
  if not exists (select from mooring_internal.inconsistent_loads())
     or current_setting('transaction_isolation') <> 'read committed'
     or not mooring_internal.try_lock_placement() then
    return 0;
  end if;
  with inconsistent as materialized (
    select l.node_id, l.kept, l.counted from mooring_internal.inconsistent_loads() l
  ),
  mended as (
    insert into mooring_internal.node_load (node_id, change)
    select a.node_id, a.counted - a.kept from inconsistent a
  )
  insert into mooring.event (kind, node_id, node, reason, detail)
  select 'load_recounted', a.node_id, n.name, 'node_load was not what the node owns',
      jsonb_build_object('from', a.kept, 'to', a.counted)
    from inconsistent a
    left join mooring.node n on n.id = a.node_id
   order by a.node_id;
  get diagnostics mended = row_count;
  return mended;
end;
$$;
comment on function mooring_internal.recount_loads() is
  'Makes node_load what the nodes own, where it is not; returns the number of nodes mended.';
--! EndIncluded functions/placement/recount_loads.sql
--! Included functions/placement/queue_signature.sql
-- The signature under which a row queues. It is its deployment's signature. A row that nodes
-- refused has a signature of its own, so that it never stands in front of other rows.
-- Stable, because the text of an array is stable. Declared immutable it would not inline, and would
-- cost a call for each row of a release.
create or replace function mooring_internal.queue_signature(
  signature uuid,
  refused_by int[]
) returns uuid
  language sql stable parallel safe
return case when refused_by = '{}' then signature
            else md5(signature::text || refused_by::text)::uuid end;
comment on function mooring_internal.queue_signature(uuid, int[]) is
  'Signature under which an assignment queues.';
--! EndIncluded functions/placement/queue_signature.sql
--! Included functions/placement/trust_matches.sql
-- Each distinct trust pattern of the fleet against each package. The pattern is the outer side,
-- because a backend caches only 32 compiled expressions.
create or replace function mooring_internal.trust_matches(packages text[])
  returns table (pattern text, package text)
  language plpgsql stable security definer rows 100
  set search_path = pg_catalog, mooring, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with pattern as materialized (
      select distinct n.trusts as pattern
        from mooring.node n
       where n.trusts is not null
    )
    select p.pattern, r.package
      from pattern p
     cross join (
       select distinct u.package
         from unnest(trust_matches.packages) u (package)
        where u.package is not null) r
     where r.package ~ p.pattern
     order by p.pattern;
end;
$$;
comment on function mooring_internal.trust_matches(text[]) is
  'The trust patterns of the nodes, and which of these packages each of them matches.';
--! EndIncluded functions/placement/trust_matches.sql
--! Included functions/placement/code_variables.sql
-- The names in an env by which a loader, shell, interpreter, package manager or TLS library runs or
-- trusts something else than it would. A deployment that sets one decides which code runs, so it
-- needs what a command needs. Trust in a package would otherwise be trust in all that may insert.
-- The generated column deployment.signature holds the same expression, and so does
-- syntax/code-variables.ts; test/sql/placement/code_variables.test.ts compares the three.
create or replace function mooring_internal.code_variables(env jsonb) returns text[]
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
return (
  select coalesce(array_agg(k.name order by k.name), '{}')
    from jsonb_object_keys(code_variables.env) k (name)
   where k.name ~* (
     '^('
     'LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|'
     'HOSTALIASES|RESOLV_HOST_CONF|RES_OPTIONS|LOCALDOMAIN|MALLOC_TRACE|PATH|HOME|'
     'SHELL|ENV|BASH_.*|SHELLOPTS|BASHOPTS|IFS|PS4|PROMPT_COMMAND|CDPATH|ZDOTDIR|'
     'XDG_(CONFIG|DATA)_.*|EDITOR|VISUAL|PAGER|BROWSER|LESSOPEN|LESSCLOSE|TERMINFO.*|'
     'NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED|ICU_DATA)|'
     'NODE_(COMPILE_CACHE|V8_COVERAGE|REDIRECT_WARNINGS)|'
     'NODE_(REPL_|CHANNEL_|PRESERVE_SYMLINKS|USE_).*|TS_NODE_.*|ELECTRON_RUN_AS_NODE|'
     'NPM_CONFIG_.*|YARN_.*|PNPM_HOME|COREPACK_.*|'
     'PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|USERBASE|PYCACHEPREFIX)|'
     'PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|'
     'JDK_JAVA_OPTIONS|JAVA_HOME|CLASSPATH|LUA_.*|PHPRC|PHP_INI_SCAN_DIR|'
     'DOTNET_(STARTUP_HOOKS|ROOT.*|ADDITIONAL_DEPS|SHARED_STORE)|CORECLR_.*|'
     'COR_(ENABLE_PROFILING|PROFILER.*)|'
     'GIT_(SSH.*|ASKPASS|EXEC_PATH|TEMPLATE_DIR|CONFIG.*|DIR|WORK_TREE)|'
     'GIT_(EDITOR|PAGER|PROXY_COMMAND|EXTERNAL_DIFF)|SSH_(ASKPASS.*|AUTH_SOCK)|'
     'OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|(CURL|REQUESTS|AWS)_CA_BUNDLE'
     ')$'));
comment on function mooring_internal.code_variables(jsonb) is
  'The names in an env that decide which code runs.';
--! EndIncluded functions/placement/code_variables.sql
--! Included functions/placement/eligibility_groups.sql
-- Groups deployments that every node judges alike, so that ten thousand packages that one pattern
-- trusts are one question and not ten thousand.
-- Two deployments are alike when selector, pin, driver and need for URLs are equal, and the same
-- trust patterns of the fleet match their packages.
create or replace function mooring_internal.eligibility_groups(deployments bigint[])
  returns table (deployment_id bigint, representative bigint)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- one plan for every call: planning for the very array takes twice as long as answering
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with wanted as materialized (
      select d.id, d.selector, d.pinned_node, d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}' as needs_exec,
          d.package_name || '@' || d.package_version as package
        from mooring.deployment d
       where d.id = any(eligibility_groups.deployments)
    ),
    trust as (
      select m.package, array_agg(m.pattern order by m.pattern) as patterns
        from mooring_internal.trust_matches((select array_agg(w.package) from wanted w)) m
       group by m.package
    )
    select w.id,
        min(w.id) over (
          partition by w.selector, w.pinned_node, w.needs_urls, w.needs_exec, w.package is null,
            t.patterns)
      from wanted w
      left join trust t on t.package = w.package;
end;
$$;
comment on function mooring_internal.eligibility_groups(bigint[]) is
  'Groups deployments that the present nodes judge alike; '
  'representative is the smallest id of each group.';
--! EndIncluded functions/placement/eligibility_groups.sql
--! Included functions/placement/label_texts.sql
-- YAML and SQL have booleans and numbers, and a command line has texts only. So gpu: true of a
-- file, --label gpu=true of an agent and "gpu": "true" mean the same.
create or replace function mooring_internal.label_texts(labels jsonb) returns jsonb
  language sql immutable parallel safe
return case
  when label_texts.labels = '{}' then label_texts.labels
  else (
    select jsonb_object_agg(
        e.key,
        case
          when jsonb_typeof(e.value) in ('boolean', 'number') then to_jsonb(e.value #>> '{}')
          else e.value
        end)
      from jsonb_each(label_texts.labels) e)
end;
comment on function mooring_internal.label_texts(jsonb) is
  'Labels as they are compared: booleans and numbers as texts.';
--! EndIncluded functions/placement/label_texts.sql
--! Included functions/nodes/node_is_held.sql
create or replace function mooring_internal.node_is_held(held_until timestamptz) returns boolean
  language sql stable
return coalesce(held_until > clock_timestamp(), false);
comment on function mooring_internal.node_is_held(timestamptz) is
  'True while the work of a node waits for it, see hold_node().';
--! EndIncluded functions/nodes/node_is_held.sql
--! Included functions/placement/eligibility.sql
-- Which node may run which deployment, predicate by predicate: the one relation behind claim,
-- evict, unplaced, explain and the health labels.
--   permitted  holds all the time: where it no longer holds, evict() stops the work
--   eligible   permitted and fit for new work: a disabled or draining node keeps what it has
-- assumed: the columns of one more deployment that does not exist; its deployment_id is null.
create or replace function mooring_internal.eligibility(
  deployments bigint[],
  assumed jsonb default null
) returns table (
  deployment_id bigint,
  node_id int,
  pin_ok boolean,
  selector_ok boolean,
  driver_ok boolean,
  trust_ok boolean,
  urls_ok boolean,
  permitted boolean,
  live boolean,
  enabled boolean,
  not_draining boolean,
  has_room boolean,
  disk_ok boolean,
  eligible boolean
)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- one plan for every call: planning for the very array takes twice as long as answering
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with wanted as materialized (
      select d.id, d.pinned_node, mooring_internal.label_texts(d.selector) as selector,
          d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}' as needs_exec,
          d.package_name || '@' || d.package_version as package
        from mooring.deployment d
       where d.id = any(eligibility.deployments)
      union all
      select null, d.pinned_node, mooring_internal.label_texts(d.selector), d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}',
          d.package_name || '@' || d.package_version
        from jsonb_populate_record(null::mooring.deployment, eligibility.assumed) d
       where eligibility.assumed is not null
    ),
    trust as materialized (
      select m.pattern, m.package
        from mooring_internal.trust_matches((select array_agg(w.package) from wanted w)) m
    ),
    host as materialized (
      select n.id, n.name, mooring_internal.label_texts(n.labels) as labels, n.drivers, n.trusts,
          n.agent_base_url is not null and n.gateway_base_url is not null as has_urls,
          mooring_internal.node_is_live(h) as live,
          n.enabled,
          n.draining_since is null
            and not h.leaving
            and not mooring_internal.node_is_held(n.held_until) as not_draining,
          n.max_assignments is null
            or coalesce(l.assigned_and_promised, 0) < n.max_assignments as has_room,
          h.disk_free_pct is null
            or h.disk_free_pct >= (select s.disk_free_min_pct from mooring.setting s) as disk_ok
        from mooring.node n
        join mooring.heartbeat h on h.node_id = n.id
        left join mooring_internal.assigned_and_promised_per_node() l on l.node_id = n.id
    ),
    pair as (
      select w.id as deployment_id, n.id as node_id,
          w.pinned_node is null or w.pinned_node = n.name as pin_ok,
          n.labels @> w.selector as selector_ok,
          case when w.needs_exec then n.drivers @> '{exec}' else true end
            and (w.package is null or n.drivers @> '{npm}') as driver_ok,
          w.package is null or t.pattern is not null as trust_ok,
          not w.needs_urls or n.has_urls as urls_ok,
          n.live, n.enabled, n.not_draining, n.has_room, n.disk_ok
        from wanted w
        cross join host n
        left join trust t on t.pattern = n.trusts and t.package = w.package
    )
    select p.deployment_id, p.node_id,
        p.pin_ok, p.selector_ok, p.driver_ok, p.trust_ok, p.urls_ok, j.permitted,
        p.live, p.enabled, p.not_draining, p.has_room, p.disk_ok,
        j.permitted and p.live and p.enabled and p.not_draining and p.has_room and p.disk_ok
      from pair p
      cross join lateral (
        select p.pin_ok and p.selector_ok and p.driver_ok and p.trust_ok and p.urls_ok
          as permitted) j;
end;
$$;
comment on function mooring_internal.eligibility(bigint[], jsonb) is
  'Every node against every given deployment: each predicate, permitted (all the time) and '
  'eligible (for new work).';
--! EndIncluded functions/placement/eligibility.sql
--! Included functions/placement/work_of_lost_node.sql
-- The work a node would leave behind if it were gone, as release() would leave it.
--   a daemon, and a row that stops for good, end with the node
--   a move goes on to its target, where that is possible; a restart on this node cannot
--   a row of a handover needs no place: the row beside the replica ends, or the replica has a
--   successor
create or replace function mooring_internal.work_of_lost_node(node_id int) returns table (
  id bigint,
  deployment_id bigint,
  signature uuid,
  refused_by int[],
  replicated boolean,
  move_to int,
  move_reason text,
  updated_at timestamptz,
  created_at timestamptz
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  -- found by array and joined by hash, as in release(): without statistics a loop would read a
  -- thousand rows for each deployment
  set enable_nestloop = off
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id,
        mooring_internal.queue_signature(d.signature, a.refused_by), a.refused_by,
        d.replicas > 1,
        case when a.wanted = 'stop' then nullif(a.move_to, a.node_id) end,
        case when a.wanted = 'stop' then a.move_reason end,
        a.updated_at, a.created_at
      from mooring.assignment a
      join mooring.deployment d
        on d.id = a.deployment_id
       and d.enabled
       and d.type = 'deployment'
       and not a.surplus
     where a.node_id = work_of_lost_node.node_id
       and a.handover is null
       and d.id = any (array(
         select b.deployment_id
           from mooring.assignment b
          where b.node_id = work_of_lost_node.node_id))
       and a.id <> all (array(
         select c.replica
           from mooring_internal.handover_rows() c
          where c.handover = 'arriving' and c.wanted = 'run' and c.replica is not null));
end;
$$;
comment on function mooring_internal.work_of_lost_node(int) is
  'The work of a node that would have to be placed elsewhere if the node were gone.';
--! EndIncluded functions/placement/work_of_lost_node.sql
--! Included functions/placement/pending_signatures.sql
-- Pending work, one row per signature. A loose index scan: as many index probes as there are
-- distinct signatures, however many rows are pending.
-- without_node: as if that node were gone and its work had been released.
create or replace function mooring_internal.pending_signatures(without_node int default null)
  returns table (signature uuid, deployment_id bigint, refused_by int[])
  language plpgsql stable security definer rows 50
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    with recursive waiting as (
      (select a.signature, a.deployment_id, a.refused_by
         from mooring.assignment a
        where a.node_id is null and a.wanted = 'run'
        order by a.signature
        limit 1)
      union all
      select n.signature, n.deployment_id, n.refused_by
        from waiting w
       cross join lateral (
         select a.signature, a.deployment_id, a.refused_by
           from mooring.assignment a
          where a.node_id is null and a.wanted = 'run' and a.signature > w.signature
          order by a.signature
          limit 1) n
    )
    select w.signature, w.deployment_id, w.refused_by from waiting w;
  if pending_signatures.without_node is not null then
    return query
      select l.signature, l.deployment_id, l.refused_by
        from (select b.signature, min(b.deployment_id) as deployment_id, b.refused_by
                from mooring_internal.work_of_lost_node(pending_signatures.without_node) b
               where b.move_to is null
               group by b.signature, b.refused_by) l
       where not exists (
         select from mooring.assignment a
          where a.node_id is null and a.wanted = 'run' and a.signature = l.signature);
  end if;
end;
$$;
comment on function mooring_internal.pending_signatures(int) is
  'Each distinct signature among pending assignments, with one deployment that has it.';
--! EndIncluded functions/placement/pending_signatures.sql
--! Included functions/placement/placeable_classes.sql
-- Pending work that has an eligible node: signatures grouped by policy and by the set of their
-- eligible nodes, the smallest set first.
-- Work that no node can run is absent. So it costs nothing, however much of it leads the queue.
create or replace function mooring_internal.placeable_classes(without_node int default null)
  returns setof mooring_internal.placement_class
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    with waiting as materialized (
      select w.signature, w.deployment_id, w.refused_by,
          coalesce(d.policy, s.default_policy) as policy
        from mooring_internal.pending_signatures(placeable_classes.without_node) w
        join mooring.deployment d on d.id = w.deployment_id
       cross join mooring.setting s
        join mooring.policy p on p.name = coalesce(d.policy, s.default_policy) and p.kind <> 'none'
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct w.deployment_id) from waiting w)) l
    ),
    fit as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
         and e.node_id is distinct from placeable_classes.without_node
       group by e.deployment_id
    ),
    open as (
      select w.policy, w.signature,
          case when w.refused_by = '{}' then f.node_ids
               else array(
                 select n.id
                   from unnest(f.node_ids) n (id)
                  where n.id <> all (w.refused_by)
                  order by n.id) end as node_ids
        from waiting w
        join alike l on l.deployment_id = w.deployment_id
        join fit f on f.deployment_id = l.representative
    )
    select o.policy, array_agg(o.signature), o.node_ids
      from open o
     where o.node_ids <> '{}'
     group by o.policy, o.node_ids
     order by cardinality(o.node_ids), o.node_ids, o.policy;
end;
$$;
comment on function mooring_internal.placeable_classes(int) is
  'Pending work that has an eligible node with room, grouped by policy and node set.';
--! EndIncluded functions/placement/placeable_classes.sql
--! Included functions/placement/cheapest_slots.sql
-- The eligible nodes for the next n assignments: the n cheapest of all (node, k) slots, where k
-- counts a node's further assignments from 1. Returns node ids, cheapest first; fewer than n where
-- room runs out.
-- The cost never falls in k, so a node's slots are used in order, and a few slots per node are
-- enough. When a node uses all of them, the search widens.
-- An unknown cost sorts last. Where the cost of no node is known, the number of assignments
-- decides, so that a fleet whose samples fail still fills evenly.
-- Pure: it reads its arguments and the policy and locks nothing, so explaining and simulating use
-- the same choice.
create or replace function mooring_internal.cheapest_slots(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  n int
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  cost_function text;
  depth int := greatest(4, 2 * ceil(n::float8 / nullif(cardinality(eligible), 0))::int);
  chosen int[];
  deepest int;
  unknown boolean;
begin
  select p.cost_function into strict cost_function
    from mooring.policy p
   where p.name = cheapest_slots.policy;
  loop
    execute format($query$
      with slot as (
        select s.id, k, c.cost * 100 / s.weight as cost,
            (s.assigned + k) * 100 / s.weight as evenly
          from unnest($1) s
         cross join lateral generate_series(1, least(
                 $2,
                 $3,
                 greatest(coalesce(s.max_assignments, 2147483647) - s.assigned, 0))) k
         cross join lateral (select %s(s, k) as cost) c
         where s.id = any ($4)
         order by 3 nulls last, 4, 1
         limit $3)
      select array_agg(slot.id order by slot.cost nulls last, slot.evenly, slot.id),
          max(slot.k),
          bool_and(slot.cost is null)
        from slot
      $query$, cost_function)
      into chosen, deepest, unknown
      using nodes, depth, n, eligible;
    if unknown and cheapest_slots.policy <> 'deployment_count' then
      return mooring_internal.cheapest_slots(nodes, eligible, 'deployment_count', n);
    end if;
    -- a node whose every offered slot was chosen might get more
    exit when chosen is null or deepest < depth or depth >= n;
    depth := depth * 4;
  end loop;
  return coalesce(chosen, '{}');
end;
$$;
comment on function mooring_internal.cheapest_slots(mooring.node_state[], int[], text, int) is
  'The n cheapest places for further assignments under a policy, as node ids, cheapest first.';
--! EndIncluded functions/placement/cheapest_slots.sql
--! Included functions/placement/with_load.sql
-- The same nodes, with the chosen assignments added to their loads.
create or replace function mooring_internal.with_load(
  nodes mooring.node_state[],
  chosen int[]
) returns mooring.node_state[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays: a generic plan assumes ten elements and joins by
  -- nested loop
  set plan_cache_mode = force_custom_plan
as $$
begin
  return array(
    select (
        s.id, s.name, s.weight, s.max_assignments, s.assigned + coalesce(c.n, 0), s.running,
        s.cpu_pct, s.memory_mb, s.disk_free_pct)::mooring.node_state
      from unnest(nodes) s
      left join (
             select u.id, count(*)::int as n
               from unnest(chosen) u (id)
              group by u.id) c on c.id = s.id
     order by s.id);
end;
$$;
comment on function mooring_internal.with_load(mooring.node_state[], int[]) is
  'Adds chosen assignments to the loads of nodes.';
--! EndIncluded functions/placement/with_load.sql
--! Included functions/placement/spread_replicas.sql
-- Which of the chosen places each row gets, so that replicas of one deployment are kept apart.
-- Rows come in queue order with their deployments. README.md explains the algorithm.
--   fixed_*           replicas that already got their node and are not written yet
--   shuffle => false  places belong to their rows; only a row that meets another replica moves
-- It looks at a deployment as often as it has eligible nodes, however many replicas there are: ten
-- thousand replicas on three nodes are no work.
-- Reads where the deployments run and where they are promised to, locks nothing.
create or replace function mooring_internal.spread_replicas(
  deployments bigint[],
  places int[],
  nodes mooring.node_state[],
  eligible int[],
  fixed_deployments bigint[] default '{}',
  fixed_nodes int[] default '{}',
  shuffle boolean default true
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
as $$
declare
  placed int[];
  load jsonb;
  deployment record;
  used_nodes int[];
  nr int;
  better int;
begin
  placed := places;
  if shuffle then
    select array_agg(p.node_id order by r.nr) into placed
      from (select u.nr, row_number() over (order by u.replica, u.nr) as turn
              from (select d.nr,
                        row_number() over (partition by d.deployment_id order by d.nr) as replica
                      from unnest(deployments) with ordinality d (deployment_id, nr)) u) r
      join (select u.node_id, row_number() over (order by u.node_id, u.nr) as turn
              from unnest(places) with ordinality u (node_id, nr)) p using (turn);
  end if;
  select jsonb_object_agg(c.node_id, c.n) into load
    from (select u.node_id, count(*) as n from unnest(placed) u (node_id) group by 1) c;
  for deployment in
    select m.deployment_id,
        array_agg(m.nr order by m.nr) filter (where m.nr is not null and m.nth > 1) as twins,
        array_agg(distinct m.node_id) as nodes
      from (select u.nr, u.deployment_id, u.node_id,
                row_number() over (
                  partition by u.deployment_id, u.node_id
                  order by u.nr nulls first) as nth
              from (select d.deployment_id, d.node_id, d.nr
                      from unnest(deployments, placed)
                        with ordinality d (deployment_id, node_id, nr)
                    union all
                    select f.deployment_id, f.node_id, null::bigint
                      from unnest(fixed_deployments, fixed_nodes) f (deployment_id, node_id)
                     where f.deployment_id = any (deployments)
                    union all
                    select distinct a.deployment_id, p.node_id, null::bigint
                      from mooring.assignment a
                     cross join lateral (values (a.node_id), (a.move_to)) p (node_id)
                     where a.deployment_id = any (deployments)
                       and p.node_id is not null
                       and a.handover is distinct from 'leaving') u) m
     group by m.deployment_id
    having count(*) filter (where m.nr is not null and m.nth > 1) > 0
     order by min(m.nr)
  loop
    used_nodes := deployment.nodes;
    foreach nr in array deployment.twins loop
      select s.id into better
        from unnest(nodes) s
       where s.id = any (eligible)
         and s.id <> all (used_nodes)
         and s.assigned + coalesce((load ->> s.id::text)::int, 0)
           < coalesce(s.max_assignments, 2147483647)
       order by (s.assigned + coalesce((load ->> s.id::text)::int, 0) + 1) * 100 / s.weight, s.id
       limit 1;
      exit when better is null;
      load := load || jsonb_build_object(
        placed[nr],
        (load ->> placed[nr]::text)::int - 1,
        better,
        coalesce((load ->> better::text)::int, 0) + 1);
      placed[nr] := better;
      used_nodes := used_nodes || better;
    end loop;
  end loop;
  return placed;
end;
$$;
comment on function mooring_internal.spread_replicas(
  bigint[], int[], mooring.node_state[], int[], bigint[], int[], boolean) is
  'Pairs rows with chosen places so that replicas of one deployment run on different nodes '
  'where there is room.';
--! EndIncluded functions/placement/spread_replicas.sql
--! Included functions/placement/choose_by_affinity.sql
-- The node for each of some assignments under a policy of kind affinity, in queue order: each
-- assignment gets the cheapest node that has room left when its turn comes.
-- The first assignment that finds no room ends the result, because none after it finds room.
-- README.md explains the algorithm. Reads the given assignments, locks nothing.
create or replace function mooring_internal.choose_by_affinity(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignments bigint[]
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
declare
  no_limit constant int := 2147483647;
  cost_function text;
  fit mooring.node_state[] := array(
    select s
      from unnest(nodes) s
     where s.id = any (eligible) and coalesce(s.max_assignments > s.assigned, true)
     order by s.id);
  last_id int := (select max(s.id) from unnest(fit) s);
  -- by node id: its room, and the number in the queue from which on it rejects every assignment
  room int[] := array(
    select coalesce(s.max_assignments - s.assigned, no_limit)
      from generate_series(1, last_id) g (id)
      left join unnest(fit) s on s.id = g.id
     order by g.id);
  closed_from int[] := array_fill(no_limit, array[coalesce(last_id, 0)]);
  -- numbers in the queue: without a node yet; the nodes they ask now; accepted, and by which node
  asking int[] := array(select generate_series(1, cardinality(assignments)));
  asked int[];
  offered int[];
  accepted int[] := '{}';
  accepted_on int[] := '{}';
begin
  select p.cost_function into strict cost_function
    from mooring.policy p
   where p.name = choose_by_affinity.policy;
  while asking <> '{}' and fit <> '{}' loop
    execute format($query$
      select array_agg(r.nr), array_agg(b.id)
        from unnest($1, $2) r (nr, id)
        join mooring.assignment a on a.id = r.id
       cross join lateral (
         select s.id
           from unnest($3) s
          where r.nr < $4[s.id]
          order by %s(s, a) * 100 / s.weight nulls last, s.id
          limit 1) b
      $query$, cost_function)
      into asked, offered
      using asking,
        array(
          select assignments[u.nr]
            from unnest(asking) with ordinality u (nr, o)
           order by u.o),
        fit,
        closed_from;
    exit when asked is null;
    select
        coalesce(array_agg(w.nr order by w.nr) filter (where w.place <= room[w.node_id]), '{}'),
        coalesce(
          array_agg(w.node_id order by w.nr) filter (where w.place <= room[w.node_id]), '{}'),
        coalesce(array_agg(w.nr order by w.nr) filter (where w.place > room[w.node_id]), '{}')
      into accepted, accepted_on, asking
      from (select u.nr, u.node_id,
                row_number() over (partition by u.node_id order by u.nr) as place
              from (select t.nr, t.node_id
                      from unnest(accepted, accepted_on) t (nr, node_id)
                    union all
                    select o.nr, o.node_id
                      from unnest(asked, offered) o (nr, node_id)) u) w;
    if asking <> '{}' then
      closed_from := array(
        select coalesce(f.nr, no_limit)
          from generate_series(1, last_id) g (id)
          left join (
                 select t.node_id, max(t.nr) as nr
                   from unnest(accepted, accepted_on) t (nr, node_id)
                  group by t.node_id
                 having count(*) >= room[t.node_id]) f on f.node_id = g.id
         order by g.id);
    end if;
  end loop;
  return accepted_on;
end;
$$;
comment on function
  mooring_internal.choose_by_affinity(mooring.node_state[], int[], text, bigint[]) is
  'The node for each of the given assignments under a policy of kind affinity, in queue order; '
  'fewer where room runs out.';
--! EndIncluded functions/placement/choose_by_affinity.sql
--! Included functions/placement/policy_in_force.sql
-- The policy that decides for the given nodes. A policy that knows the cost of none of them is
-- replaced by its fallback, and so on; the last one is deployment_count, which knows every cost.
-- So a fleet whose samples fail still fills.
create or replace function mooring_internal.policy_in_force(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignment bigint
) returns mooring.policy
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  in_force mooring.policy;
  tried text[] := '{}';
  known boolean;
begin
  select p.* into strict in_force
    from mooring.policy p
   where p.name = policy_in_force.policy;
  while in_force.kind <> 'none'
    and in_force.name <> 'deployment_count'
    and cardinality(eligible) > 0
  loop
    execute format(
      'select exists (select from unnest($1) s %s where s.id = any ($2) and %s is not null)',
      case in_force.kind
        when 'affinity' then 'cross join ('
          'select a as assignment from mooring.assignment a where a.id = $3) a'
        else '' end,
      in_force.cost_function
        || case in_force.kind when 'affinity' then '(s, a.assignment)' else '(s, 1)' end)
      into known
      using nodes, eligible, assignment;
    exit when known;
    tried := tried || in_force.name;
    select p.* into strict in_force
      from mooring.policy p
     where p.name = case when in_force.fallback = any (tried) then 'deployment_count'
                         else coalesce(in_force.fallback, 'deployment_count') end;
  end loop;
  return in_force;
end;
$$;
comment on function
  mooring_internal.policy_in_force(mooring.node_state[], int[], text, bigint) is
  'A policy, or its fallback where it knows the cost of none of the eligible nodes.';
--! EndIncluded functions/placement/policy_in_force.sql
--! Included functions/placement/may_return_to_last_node.sql
-- Which pending rows may return to their last node: those whose cost there is at most
-- setting.sticky_slack above that of the dearest of places, which the window would use anyway.
-- So with a slack of 0 work returns only where that spoils no balance.
-- Rows come in queue order. A replica does not return to a node that has another replica of its
-- deployment. A node gets no more rows than it has room for.
-- Returns the numbers of the rows in the queue; null when no row has an eligible last node.
create or replace function mooring_internal.may_return_to_last_node(
  nodes mooring.node_state[],
  eligible int[],
  in_force mooring.policy,
  places int[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[],
  placed_nodes int[]
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
declare
  wished int[];
  wished_on int[];
  returning_rows int[];
begin
  select array_agg(w.nr), array_agg(w.node_id) into wished, wished_on
    from (select u.nr, u.node_id, u.deployment_id,
              row_number() over (partition by u.deployment_id, u.node_id order by u.nr) as nth
            from unnest(last_nodes, deployments) with ordinality u (node_id, deployment_id, nr)
           where u.nr <= cardinality(places) and u.node_id is not null) w
   where w.node_id = any (eligible)
     and (not replicated
       or w.nth = 1
       and not exists (
         select from mooring.assignment a
          where a.deployment_id = w.deployment_id
            and a.node_id = w.node_id
            and a.handover is distinct from 'leaving')
       and not exists (
         select from unnest(placed_deployments, placed_nodes) p (deployment_id, node_id)
          where p.deployment_id = w.deployment_id and p.node_id = w.node_id));
  if wished is null then
    return null;
  end if;
  execute format($query$
    with wish as (
      select u.nr, u.node_id,
          (row_number() over (partition by u.node_id order by u.nr))::int as k
        from unnest($2, $3) u (nr, node_id)
    ),
    dearest as materialized (
      select coalesce(
          %1$s(s, (select count(*)::int from unnest($4) p (id) where p.id = s.id)) * 100 / s.weight,
          'infinity') as cost
        from unnest($1) s
       where s.id = $4[cardinality($4)]
    )
    select array_agg(w.nr order by w.nr)
      from wish w
      join unnest($1) s on s.id = w.node_id
     cross join dearest d
     where w.k <= coalesce(s.max_assignments - s.assigned, 2147483647)
       and coalesce(%1$s(s, w.k) * 100 / s.weight, 'infinity')
         <= d.cost + (select c.sticky_slack from mooring.setting c)
    $query$, in_force.cost_function)
    into returning_rows
    using nodes, wished, wished_on, places;
  return returning_rows;
end;
$$;
comment on function mooring_internal.may_return_to_last_node(
  mooring.node_state[], int[], mooring.policy, int[], bigint[], int[], boolean, bigint[], int[]) is
  'Numbers of the pending rows whose last node is eligible and within sticky_slack of the places '
  'that would be used anyway.';
--! EndIncluded functions/placement/may_return_to_last_node.sql
--! Included functions/placement/choose_places.sql
-- The node for each pending row of one class, in queue order; fewer where room runs out.
-- Under a policy of kind affinity each row goes to its own cheapest node. Under one of kind load
-- rows first return to their last node, where that is cheap enough; the others get the cheapest
-- places. Replicas are kept apart.
-- Pure: what claim() writes and what a simulation shows come from here.
-- placed_*: replicas that a simulation has placed before, which no table knows of.
create or replace function mooring_internal.choose_places(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignments bigint[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[] default '{}',
  placed_nodes int[] default '{}'
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force mooring.policy :=
    mooring_internal.policy_in_force(nodes, eligible, policy, assignments[1]);
  chosen int[];
  -- numbers in the queue: rows that return to their last node, and the others
  returning_rows int[];
  returning_to int[];
  others int[];
begin
  if in_force.kind = 'none' then
    return '{}';
  end if;
  if in_force.kind = 'affinity' then
    chosen := mooring_internal.choose_by_affinity(nodes, eligible, in_force.name, assignments);
    return case when replicated and chosen <> '{}'
                then mooring_internal.spread_replicas(
                  deployments[1:cardinality(chosen)],
                  chosen,
                  nodes,
                  eligible,
                  placed_deployments,
                  placed_nodes,
                  shuffle => false)
                else chosen end;
  end if;
  chosen := mooring_internal.cheapest_slots(
    nodes, eligible, in_force.name, cardinality(assignments));
  if chosen <> '{}' and array_remove(last_nodes, null) <> '{}' then
    returning_rows := mooring_internal.may_return_to_last_node(
      nodes,
      eligible,
      in_force,
      chosen,
      deployments,
      last_nodes,
      replicated,
      placed_deployments,
      placed_nodes);
  end if;
  if returning_rows is null then
    return case when replicated and chosen <> '{}'
                then mooring_internal.spread_replicas(
                  deployments[1:cardinality(chosen)],
                  chosen,
                  nodes,
                  eligible,
                  placed_deployments,
                  placed_nodes)
                else chosen end;
  end if;
  returning_to := array(
    select last_nodes[u.nr]
      from unnest(returning_rows) with ordinality u (nr, o)
     order by u.o);
  others := array(
    select g.nr
      from generate_series(1, cardinality(chosen)) g (nr)
    except all
    select u.nr
      from unnest(returning_rows) u (nr)
     order by 1);
  if others = '{}' then
    return returning_to;
  end if;
  nodes := mooring_internal.with_load(nodes, returning_to);
  chosen := mooring_internal.cheapest_slots(nodes, eligible, in_force.name, cardinality(others));
  if replicated then
    chosen := mooring_internal.spread_replicas(
      array(select deployments[u.nr] from unnest(others) with ordinality u (nr, o) order by u.o),
      chosen,
      nodes,
      eligible,
      placed_deployments || array(
        select deployments[u.nr]
          from unnest(returning_rows) with ordinality u (nr, o)
         order by u.o),
      placed_nodes || returning_to);
  end if;
  return array(
    select u.node_id
      from (select h.nr, h.node_id
              from unnest(returning_rows, returning_to) h (nr, node_id)
            union all
            select o.nr, o.node_id
              from unnest(others, chosen) o (nr, node_id)) u
     order by u.nr);
end;
$$;
comment on function mooring_internal.choose_places(
  mooring.node_state[], int[], text, bigint[], bigint[], int[], boolean, bigint[], int[]) is
  'The node for each of the pending assignments of one class, in queue order; '
  'fewer where room runs out.';
--! EndIncluded functions/placement/choose_places.sql
--! Included functions/placement/place_class.sql
-- One step of every placement, real or simulated: chooses places for the next work of one class, in
-- queue order, by the loads as the steps before left them.
-- claim(), plan_placement(), advance_drains() and simulate_drain() call it; each of them writes or
-- shows the result itself.
-- given: places that were chosen since the loads in nodes were added up. They are added here, so
-- that the last step of a call adds up nothing.
-- placed_*: see choose_places().
-- A policy that fails raises; the caller then keeps its nodes and given as they are.
-- Reads what choose_places() reads, locks and writes nothing.
create or replace function mooring_internal.place_class(
  nodes mooring.node_state[],
  given int[],
  class mooring_internal.placement_class,
  ids bigint[],
  deployments bigint[],
  last_nodes int[],
  replicated boolean,
  placed_deployments bigint[] default '{}',
  placed_nodes int[] default '{}',
  out nodes_now mooring.node_state[],
  out chosen int[],
  out exhausted boolean,
  out rule text
)
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  nodes_now := nodes;
  if given <> '{}' then
    nodes_now := mooring_internal.with_load(nodes, given);
  end if;
  chosen := mooring_internal.choose_places(
    nodes_now,
    class.node_ids,
    class.policy,
    ids,
    deployments,
    last_nodes,
    replicated,
    placed_deployments,
    placed_nodes);
  exhausted := cardinality(chosen) < cardinality(ids);
  rule := 'cheapest by ' || class.policy;
end;
$$;
comment on function mooring_internal.place_class(
  mooring.node_state[],
  int[],
  mooring_internal.placement_class,
  bigint[],
  bigint[],
  int[],
  boolean,
  bigint[],
  int[]
) is
  'Chooses places for the next work of one class. nodes_now: the loads with what was given before. '
  'chosen: the nodes, fewer where room runs out (exhausted). rule: the rule in words.';
--! EndIncluded functions/placement/place_class.sql
--! Included functions/placement/try_lock_placement.sql
-- locks: advisory 'placing' (tried; until the end of the transaction)
create or replace function mooring_internal.try_lock_placement() returns boolean
  language sql volatile
return pg_try_advisory_xact_lock(
  mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
comment on function mooring_internal.try_lock_placement() is
  'Takes the right to place until the transaction ends, if no other transaction has it. '
  'Never waits.';
--! EndIncluded functions/placement/try_lock_placement.sql
--! Included functions/placement/lock_placement.sql
-- Takes the right to place, until the transaction ends. A transaction that gives a replica a node
-- holds this lock, so that loads are exact. A daemon's row is born with its node and counts for no
-- load, so it needs no lock.
-- One transaction places, and at most one waits without must_wait. For every other it returns
-- false at once: the waiting one takes its first snapshot after the lock and sees their rows.
-- A caller with work that no other transaction does passes must_wait.
-- The wait is bounded: MR004 names the holder. The server ends a holder that idles.
-- locks: advisory 'waiting to place' (only during the wait),
--   advisory 'placing' (until the end of the transaction)
create or replace function mooring_internal.lock_placement(
  must_wait boolean default false
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  patience interval;
  patience_ms text;
  lock_timeout_before text := current_setting('lock_timeout');
  holder int;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'MR008',
      message = 'placement needs isolation level read committed',
      hint = 'Every step has to see what was committed before it: '
        'begin the transaction without another isolation level.';
  end if;
  select s.placement_lock_timeout into patience from mooring.setting s;
  patience_ms := greatest(1, round(extract(epoch from patience) * 1000))::text;
  if not mooring_internal.try_lock_placement() then
    if not must_wait and not pg_try_advisory_lock(
      mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place')) then
      return false;
    end if;
    begin
      perform set_config('lock_timeout', patience_ms, true);
      perform pg_advisory_xact_lock(
        mooring_internal.lock_space(), mooring_internal.lock_key('placing'));
      -- first of all, before any statement that could be cancelled: this lock belongs to the
      -- session, which would keep it
      if not must_wait then
        perform pg_advisory_unlock(
          mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      perform set_config('lock_timeout', lock_timeout_before, true);
    exception when others or query_canceled then
      if not must_wait then
        perform pg_advisory_unlock(
          mooring_internal.lock_space(), mooring_internal.lock_key('waiting to place'));
      end if;
      if sqlstate <> '55P03' then
        raise;
      end if;
      holder := mooring_internal.placement_lock_holder();
      raise exception using errcode = 'MR004',
        message = format(
          'placement has been held by another transaction for more than %s', patience),
        detail = format('pid %s holds it', holder),
        hint = format('Look at it in pg_stat_activity; '
          'end it with select pg_terminate_backend(%s).', holder);
    end;
  end if;
  perform mooring_internal.limit_idle(patience);
  perform mooring_internal.require_durable_commit();
  return true;
end;
$$;
comment on function mooring_internal.lock_placement(boolean) is
  'Takes the right to place until the transaction ends; false when another transaction already '
  'waits and will see the caller''s rows.';
--! EndIncluded functions/placement/lock_placement.sql
--! Included functions/placement/placement_lock_holder.sql
create or replace function mooring_internal.placement_lock_holder() returns int
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
return (
  select l.pid
    from pg_locks l
   where l.locktype = 'advisory'
     and l.granted
     and l.database = (select d.oid from pg_database d where d.datname = current_database())
     and l.classid = mooring_internal.lock_space()
     and l.objid = mooring_internal.lock_key('placing')
     and l.objsubid = 2
   limit 1);
comment on function mooring_internal.placement_lock_holder() is
  'Pid of the backend that holds the placement lock; null when none does.';
--! EndIncluded functions/placement/placement_lock_holder.sql
--! Included functions/placement/claim.sql
-- Gives pending assignments to nodes. The heart of Mooring; README.md shows the steps.
--   1. moves to a node by name, see place_moves()
--   2. pending work in queue order (updated_at, created_at, id), in windows of setting.claim_window
--      rows: lock the window, choose places class by class, one UPDATE, one INSERT of events
--   3. the next step of handovers and drains, see advance_handovers() and advance_drains()
-- A row that another transaction holds waits for the next round, because the lock skips it.
-- When the policy of a class fails, an event says so, and the other classes go on.
-- Loads are exact because placement is serialised. A node whose lease ends meanwhile is reaped like
-- any other. Returns the assignments it placed.
-- locks: placement, then assignment rows (skip locked); never heartbeat rows
create or replace function mooring.claim(max_rows int default null)
  returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- arrays look huge to the planner; compiling such a query takes longer than running it
  set jit = off
as $$
declare
  setting mooring.setting;
  nodes mooring.node_state[];
  awaited int[];
  -- deployments whose turn comes when a deleted one of their name has stopped
  namesakes bigint[];
  -- places given since the loads in nodes were added up
  given int[] := '{}';
  step record;
  why text;
  classes mooring_internal.placement_class[];
  class_of jsonb;
  class mooring_internal.placement_class;
  class_of_work record;
  chosen int[];
  queue bigint[];
  queue_updated_at timestamptz[];
  queue_created_at timestamptz[];
  tail record;
  remaining int := coalesce(max_rows, 2147483647);
  moved int;
  handed_over boolean;
  in_hold boolean;
  -- the window's decisions, row by row
  ids bigint[];
  deployments bigint[];
  epochs bigint[];
  owners int[];
  leases interval[];
  rules text[];
  last_nodes int[];
  -- read once, not for each row
  first_epoch bigint := mooring_internal.next_epoch(0);
begin
  if max_rows < 1 then
    raise exception using errcode = 'MR007',
      message = format('max_rows is %s', max_rows),
      hint = 'Leave it out to place everything, or give 1 or more.';
  end if;
  if not mooring_internal.lock_placement() then
    return;
  end if;
  -- asked after the lock, because a hold may have begun during the wait for it
  in_hold := mooring_internal.notice_outage();
  if in_hold then
    -- the round is done, as nothing may be placed; otherwise every heartbeat of the hold would be
    -- answered that rounds are overdue
    perform mooring_internal.finish_round('place');
    return;
  end if;
  -- also where nothing is pending: a restart is a move by name and appends to node_load too
  perform mooring_internal.fold_node_load();
  -- a move has been promised its place, so it goes before the policy chooses
  return query
    select m.* from mooring_internal.place_moves(max_rows => max_rows) m;
  get diagnostics moved = row_count;
  remaining := remaining - moved;
  -- read before the eligible nodes: a node that registers in between is still awaited, and the
  -- claim that its registration requests finds it
  awaited := mooring_internal.awaited_nodes();
  namesakes := array(select w.deployment_id from mooring_internal.waiting_for_namesakes() w);
  select array_agg(p) into classes from mooring_internal.placeable_classes() p;
  if classes is not null then
    select jsonb_object_agg(s.signature, c.nr) into class_of
      from unnest(classes) with ordinality c (policy, signatures, node_ids, nr)
     cross join lateral unnest(c.signatures) s (signature);
    select s.* into setting from mooring.setting s;
    select array_agg(s) into nodes from mooring_internal.node_states() s;
    select '-infinity'::timestamptz as updated_at, '-infinity'::timestamptz as created_at,
        0::bigint as id
      into tail;
  end if;
  while classes is not null and remaining > 0 loop
    -- every row up to tail was placed, is locked elsewhere, waits for awaited nodes, or has no
    -- room, so the next window starts behind it
    select array_agg(q.id order by q.updated_at, q.created_at, q.id),
        array_agg(q.updated_at order by q.updated_at, q.created_at, q.id),
        array_agg(q.created_at order by q.updated_at, q.created_at, q.id)
      into queue, queue_updated_at, queue_created_at
      from (select a.id, a.updated_at, a.created_at
              from unnest(classes) c
             cross join lateral unnest(c.signatures) s (signature)
             cross join lateral (
               select a.id, a.updated_at, a.created_at
                 from mooring.assignment a
                where a.node_id is null
                  and a.wanted = 'run'
                  and a.signature = s.signature
                  and (a.updated_at, a.created_at, a.id)
                    > (tail.updated_at, tail.created_at, tail.id)
                order by a.updated_at, a.created_at, a.id
                limit least(setting.claim_window, remaining)) a
             order by a.updated_at, a.created_at, a.id
             limit least(setting.claim_window, remaining)) q;
    exit when queue is null;
    select queue_updated_at[cardinality(queue)] as updated_at,
        queue_created_at[cardinality(queue)] as created_at,
        queue[cardinality(queue)] as id
      into tail;
    ids := '{}';
    deployments := '{}';
    epochs := '{}';
    owners := '{}';
    leases := '{}';
    rules := '{}';
    last_nodes := '{}';
    for class_of_work in
      -- Two rules of this query, README.md has their reasons: it joins by primary key only, and the
      -- statement that locks has no condition that an index of the queue could answer.
      with locked as materialized (
        select a.id, a.deployment_id, a.epoch, a.node_id, a.wanted, a.updated_at, a.created_at,
            a.last_node_id, (class_of ->> a.signature::text)::int as nr
          from mooring.assignment a
         where a.id = any (queue) and (awaited is null or a.last_node_id is null)
           for update skip locked
      )
      select l.nr, bool_or(d.replicas > 1) as replicated,
          array_agg(l.id order by l.updated_at, l.created_at, l.id) as ids,
          array_agg(l.deployment_id order by l.updated_at, l.created_at, l.id) as deployments,
          array_agg(greatest(l.epoch + 1, first_epoch)
            order by l.updated_at, l.created_at, l.id) as epochs,
          array_agg(coalesce(d.lease_ttl, setting.lease_ttl)
            order by l.updated_at, l.created_at, l.id) as leases,
          array_agg(l.last_node_id order by l.updated_at, l.created_at, l.id) as last_nodes
        from locked l
        join mooring.deployment d on d.id = l.deployment_id and d.enabled
       -- a row that was edited, stopped or placed by hand meanwhile waits for the next claim
       where l.node_id is null and l.wanted = 'run' and l.nr is not null
         and l.deployment_id <> all (namesakes)
       group by l.nr
       order by l.nr
    loop
      class := classes[class_of_work.nr];
      begin
        step := mooring_internal.place_class(
          nodes,
          given,
          class,
          class_of_work.ids,
          class_of_work.deployments,
          class_of_work.last_nodes,
          class_of_work.replicated);
        nodes := step.nodes_now;
        chosen := step.chosen;
        why := step.rule;
        given := chosen;
      exception when others then
        -- once a minute is enough, however often it is tried
        if not exists (
          select from mooring.last_events(1000) l
           where l.kind = 'claim_failed'
             and l.at > clock_timestamp() - interval '1 min'
             and l.detail ->> 'policy' = class.policy)
        then
          perform mooring_internal.add_event(
            'claim_failed',
            format('policy %s failed: %s', class.policy, sqlerrm),
            detail => jsonb_build_object('policy', class.policy));
        end if;
        chosen := '{}';
      end;
      if cardinality(chosen) < cardinality(class_of_work.ids) then
        -- no room left, so the work behind it is not read again; the class stays, without
        -- signatures, so that nr keeps its meaning
        classes[class_of_work.nr] :=
          (class.policy, '{}', '{}')::mooring_internal.placement_class;
      end if;
      ids := ids || class_of_work.ids[1:cardinality(chosen)];
      deployments := deployments || class_of_work.deployments[1:cardinality(chosen)];
      epochs := epochs || class_of_work.epochs[1:cardinality(chosen)];
      leases := leases || class_of_work.leases[1:cardinality(chosen)];
      owners := owners || chosen;
      rules := rules || array_fill(why, array[cardinality(chosen)]);
      last_nodes := last_nodes || class_of_work.last_nodes[1:cardinality(chosen)];
    end loop;
    if array_remove(last_nodes, null) <> '{}' then
      rules := array(
        select case when u.node_id = u.last_node_id
                    then 'back on its last node, ' || u.rule || ' or near it'
                    else u.rule end
          from unnest(rules, owners, last_nodes)
            with ordinality u (rule, node_id, last_node_id, nr)
         order by u.nr);
    end if;
    return query
      update mooring.assignment a
         set node_id = p.node_id, epoch = p.epoch, lease_ttl = p.lease_ttl,
             owner_reason = p.rule, assigned_at = clock_timestamp(), waiting_since = null,
             move_to = null
        from unnest(ids, owners, epochs, leases, rules) p (id, node_id, epoch, lease_ttl, rule)
       -- named twice: by the join alone the planner may read the whole table for each window
       where a.id = p.id and a.id = any (ids)
      returning a.*;
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select 'claimed', p.id, p.deployment_id, p.node_id, n.name, p.epoch, p.rule,
        (select mooring_internal.actor())
      from unnest(ids, deployments, owners, epochs, rules)
        with ordinality p (id, deployment_id, node_id, epoch, rule, nr)
      join mooring.node n on n.id = p.node_id
     order by p.nr;
    -- a window that was not full held everything; work that commits meanwhile has requested a claim
    -- of its own, which waits for this one
    exit when cardinality(queue) < least(setting.claim_window, remaining);
    remaining := remaining - cardinality(ids);
  end loop;
  handed_over := mooring_internal.advance_handovers();
  perform mooring_internal.advance_drains(progress => moved > 0 or handed_over);
  perform mooring_internal.finish_round('place');
end;
$$;
comment on function mooring.claim(int) is
  'Places pending assignments on eligible nodes, at most max_rows of them, in queue order; '
  'returns those it placed.';
--! EndIncluded functions/placement/claim.sql

-- ownership: leases, epochs, releases, and rows that follow deployments
--! Included functions/ownership/next_epoch.sql
-- The epoch after the given one. Every statement that raises an epoch uses it.
-- The high part is the timeline of the write-ahead log, because a promoted standby may lack the
-- last claims of its primary: counting on from its own rows would give out their epochs twice.
-- On timeline 1 epochs are 1, 2, 3. See README.md for pg_upgrade, restored dumps, and the source
-- of the timeline. Where the server does not tell it, epochs only count on.
-- A call takes some microseconds. A statement that raises many epochs calls next_epoch(0) once and
-- uses greatest(epoch + 1, that), which is the same number.
create or replace function mooring_internal.next_epoch(epoch bigint) returns bigint
  language sql volatile
return greatest(
  epoch,
  coalesce(mooring_internal.timeline() - 1, 0)::bigint << 40) + 1;
comment on function mooring_internal.next_epoch(bigint) is
  'The epoch that follows this one: one more, and above every epoch that an earlier timeline of '
  'the same cluster can have given out.';
--! EndIncluded functions/ownership/next_epoch.sql
--! Included functions/ownership/node_is_live.sql
-- Live: a session holds the name, and by the database clock its lease has not ended.
create or replace function mooring_internal.node_is_live(
  heartbeat mooring.heartbeat
) returns boolean
  language sql stable
return heartbeat.session is not null
  and heartbeat.beat_at + heartbeat.lease_ttl > clock_timestamp();
comment on function mooring_internal.node_is_live(mooring.heartbeat) is
  'True while the node''s lease runs.';
--! EndIncluded functions/ownership/node_is_live.sql
--! Included functions/ownership/lease_end.sql
-- The lease of one assignment begins with the beat that confirms it.
-- Until that beat the lease of its node counts too. A node that left has no lease.
create or replace function mooring_internal.lease_end(
  heartbeat mooring.heartbeat,
  assignment mooring.assignment
) returns timestamptz
  language sql stable
return case when heartbeat.session is null then '-infinity'
            else heartbeat.beat_at + greatest(
              assignment.lease_ttl,
              case when assignment.assigned_at > heartbeat.beat_at then heartbeat.lease_ttl end)
            end;
comment on function mooring_internal.lease_end(mooring.heartbeat, mooring.assignment) is
  'When the owner''s right to run an assignment ends, unless it beats again.';
--! EndIncluded functions/ownership/lease_end.sql
--! Included functions/ownership/release.sql
-- Takes assignments from their owners. It is the one way out of ownership: report (stopped,
-- refused), leave and reap use it.
-- The deployment as it is now decides what becomes of a row: pending, pending and stopped
-- (disabled), or deleted (deployment deleted or scaled down, or a daemon). README.md tells how
-- that works for a deployment inserted again and for a handover.
-- Rows locked elsewhere, by assert_owner() for example, are skipped; the result shows which.
-- The epoch is compared under the lock. Between the caller's read and this lock, another
-- transaction may have released the row and given it to another node.
-- locks: assignment rows, run (both skip locked)
create or replace function mooring_internal.release(
  ids bigint[],
  epochs bigint[],
  kind text,
  reason text
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- Sets of thousands meet here, and the planner does not know their sizes. Hash joins of what
  -- index scans by array find grow with the sets, a nested loop with their product.
  set enable_nestloop = off
as $$
declare
  locked bigint[];
  deployments bigint[];
  freed bigint;
  daemons bigint[];
  daemon_nodes int[];
  -- locked rows that stand beside their replica
  handover_ids bigint[];
  -- locked replicas that have a row beside them, and the ids of those rows
  succeeded bigint[];
  successors bigint[];
  -- read once, not for each row
  first_epoch bigint := mooring_internal.next_epoch(0);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'MR008',
      message = 'releasing needs isolation level read committed',
      hint = 'With another level it would read the deployment as it was before the row was locked.';
  end if;
  select array_agg(l.id),
      array_agg(l.deployment_id),
      array_agg(l.deployment_id) filter (where l.ordinal is null),
      array_agg(l.node_id) filter (where l.ordinal is null),
      array_agg(l.id) filter (where l.handover is not null)
    into locked, deployments, daemons, daemon_nodes, handover_ids
    from (select a.id, a.deployment_id, a.ordinal, a.node_id, a.handover
            from unnest(release.ids, release.epochs) o (id, epoch)
            join mooring.assignment a on a.id = o.id and a.epoch = o.epoch
           where a.id = any (release.ids) and a.node_id is not null
           order by a.id
             for update of a skip locked) l;
  if locked is null then
    return;
  end if;
  select array_agg(c.replica), array_agg(c.id) into succeeded, successors
    from mooring_internal.handover_rows() c
   where c.replica = any (locked) and c.id <> all (locked);
  if successors is not null then
    successors := array(
      select l.id
        from mooring.assignment l
       where l.id = any (successors) and l.handover is not null
         for no key update skip locked);
    -- a replica stays owned while another transaction holds the row beside it, because a replica
    -- never waits beside a second row
    locked := array(
      select u.id
        from unnest(locked) u (id)
       where u.id <> all (succeeded)
          or u.id in (
            select c.replica
              from mooring_internal.handover_rows() c
             where c.id = any (successors)));
    succeeded := array(select u.id from unnest(succeeded) u (id) where u.id = any (locked));
  end if;
  -- the deployments are read by a new statement, after the lock: an edit that waits for this
  -- transaction has its turn afterwards
  return query
    with freed as (
      update mooring.assignment a
         set node_id = null,
             epoch = greatest(a.epoch + 1, first_epoch),
             wanted = case when d.enabled then 'run' else 'stop' end,
             stop_reason = null,
             owner_reason = release.reason,
             lease_ttl = null,
             assigned_at = null,
             -- a move goes on after its stop, unless its deployment was disabled meanwhile
             move_to = case when a.wanted = 'stop' and d.enabled then a.move_to end,
             move_reason = case when a.wanted = 'stop' and d.enabled then a.move_reason end,
             handover_failed_at = null,
             handover_error = null,
             last_node_id = a.node_id,
             waiting_since = clock_timestamp(),
             signature = mooring_internal.queue_signature(d.signature, a.refused_by)
        from mooring.deployment d
       where a.id = any (locked)
         and d.id = any (deployments)
         and d.id = a.deployment_id
         and d.type = 'deployment'
         and not a.surplus
         and a.handover is null
         and a.id <> all (coalesce(succeeded, '{}'))
      returning a.*
    ),
    logged as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select release.kind, f.id, f.deployment_id, n.id, n.name, f.epoch, release.reason,
          (select mooring_internal.actor())
        from freed f
        left join mooring.node n on n.id = f.last_node_id
    )
    select f.* from freed f;
  get diagnostics freed = row_count;
  if freed < cardinality(locked) then
    if handover_ids is not null or succeeded is not null then
      perform mooring_internal.end_handovers(
        handover_ids, succeeded, release.kind, release.reason);
    end if;
    -- rows that are still owned end here; this setting says that their owner is done with them,
    -- see tg_assignment__end_by_hand()
    perform set_config('mooring.owner_is_done', 'yes', true);
    return query
      with ended as (
        delete from mooring.assignment a
         where a.id = any (locked) and a.node_id is not null
        returning a.*
      ),
      logged as (
        insert into mooring.event (
          kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
        select release.kind, e.id, e.deployment_id, n.id, n.name,
            greatest(e.epoch + 1, first_epoch), release.reason,
            (select mooring_internal.actor())
          from ended e
          left join mooring.node n on n.id = e.node_id
      )
      select e.* from ended e;
    perform set_config('mooring.owner_is_done', '', true);
    if successors is not null then
      update mooring.assignment a
         set handover = null
       where a.id = any (successors);
    end if;
  end if;
  -- an observation that another transaction writes or holds stays as it is: its epoch is old now
  update mooring.run r
     set state = case release.kind when 'reaped' then 'lost'
                                   when 'refused' then 'refused'
                                   else 'stopped' end,
         pid = null,
         next_start_at = null
   where r.assignment_id = any (array(
     select l.assignment_id
       from mooring.run l
      where l.assignment_id = any (locked)
        for update skip locked));
  if daemons is not null then
    -- daemons that stopped and are wanted again by now, and those that waited for their name
    perform mooring_internal.make_daemons(
      daemons || array(
        select w.deployment_id
          from mooring_internal.namesake w
         where w.waits_for = any (daemons)),
      daemon_nodes);
  end if;
  perform mooring_internal.enqueue('place');
end;
$$;
comment on function mooring_internal.release(bigint[], bigint[], text, text) is
  'Takes assignments, each under the epoch given, from their owners; their deployments decide what '
  'becomes of them. Returns those it could lock.';
--! EndIncluded functions/ownership/release.sql
--! Included functions/ownership/requeue.sql
-- Pending rows follow a changed spec: nodes that refused the old spec may be chosen again, a failed
-- successor is tried again, and the row goes to the back of the queue.
-- Rows that run are not touched. So an uncommitted edit of a version or an environment holds up no
-- failover.
-- locks: assignment rows of these deployments that are pending, were refused or failed to hand over
create or replace function mooring_internal.requeue(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring.assignment a
     set signature = d.signature,
         refused_by = '{}',
         handover_failed_at = null,
         handover_error = null,
         wanted = case when a.node_id is not null then a.wanted
                       when d.enabled then 'run'
                       else 'stop' end,
         move_to = case when a.node_id is not null or d.enabled then a.move_to end,
         move_reason = case when a.node_id is not null or d.enabled then a.move_reason end,
         updated_at = case when a.node_id is null and a.updated_at < d.updated_at then d.updated_at
                           else a.updated_at end
    from mooring.deployment d
   where a.deployment_id = any (requeue.deployments)
     and d.id = a.deployment_id
     and d.type = 'deployment'
     and a.ordinal is not null
     and (a.signature <> d.signature
       or a.refused_by <> '{}'
       or a.node_id is null
       or a.handover_failed_at is not null);
end;
$$;
comment on function mooring_internal.requeue(bigint[]) is
  'Lets pending work of these deployments follow the changed spec, '
  'and allows nodes that refused the old one.';
--! EndIncluded functions/ownership/requeue.sql
--! Included functions/ownership/forget_refusals.sql
-- Work that a node refused may be offered to it again, because its agent says other things of
-- itself by now: another trust pattern, another driver.
-- locks: assignment (skip locked: what is locked is being placed or stopped)
create or replace function mooring_internal.forget_refusals(node_id int) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring.assignment a
     set refused_by = array_remove(a.refused_by, forget_refusals.node_id),
         signature = mooring_internal.queue_signature(
           d.signature, array_remove(a.refused_by, forget_refusals.node_id))
    from mooring.deployment d
   where d.id = a.deployment_id
     and a.id = any (array(
       select l.id
         from mooring.assignment l
        where forget_refusals.node_id = any (l.refused_by)
          for no key update skip locked));
end;
$$;
comment on function mooring_internal.forget_refusals(int) is
  'Offers the node again what its agent has refused.';
--! EndIncluded functions/ownership/forget_refusals.sql
--! Included functions/ownership/insert_missing_assignments.sql
-- Replicas are made here alone. They are born pending and queue by the times of their deployment.
-- An existing row stays as it is, even one that is still owned or stopping. It is looked for first,
-- because an insert that ends in the conflict uses up an id. New deployments have none to look for;
-- looking all the same costs an INSERT of 100,000 a tenth of its time.
-- A missing row gets the lowest ordinal that no row has. A survivor of a scale-down keeps its
-- ordinal, so there may be free ones below it.
create or replace function mooring_internal.insert_missing_assignments(
  deployments bigint[],
  are_new boolean default false
) returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  made bigint;
begin
  if insert_missing_assignments.are_new then
    insert into mooring.assignment (
      deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
    select d.id, o.ordinal, d.signature,
        case when d.enabled then 'run' else 'stop' end,
        clock_timestamp(), d.created_at, d.updated_at
      from mooring.deployment d
     cross join lateral generate_series(0, d.replicas - 1) o (ordinal)
     where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
     order by d.id, o.ordinal
    on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  else
    insert into mooring.assignment (
      deployment_id, ordinal, signature, wanted, waiting_since, created_at, updated_at)
    select d.id, o.ordinal, d.signature,
        case when d.enabled then 'run' else 'stop' end,
        clock_timestamp(), d.created_at, d.updated_at
      from mooring.deployment d
     cross join lateral (
       select count(distinct a.ordinal) filter (where not a.surplus) as present,
           count(distinct a.ordinal) as numbered
         from mooring.assignment a
        where a.deployment_id = d.id) c
     cross join lateral (
       select s.ordinal
         from generate_series(0, d.replicas + c.numbered::int - 1) s (ordinal)
        -- no `exists`: the planner would hash the whole table for it
        where (
          select true
            from mooring.assignment a
           where a.deployment_id = d.id and a.ordinal = s.ordinal
           limit 1) is null
        order by s.ordinal
        limit greatest(d.replicas - c.present, 0)) o
     where d.id = any (insert_missing_assignments.deployments) and d.type = 'deployment'
     order by d.id, o.ordinal
    on conflict (deployment_id, ordinal, (coalesce(handover, ''))) do nothing;
  end if;
  get diagnostics made = row_count;
  return made;
end;
$$;
comment on function mooring_internal.insert_missing_assignments(bigint[], boolean) is
  'Makes a row for each replica of these deployments that has none; returns how many it made.';
--! EndIncluded functions/ownership/insert_missing_assignments.sql
--! Included functions/ownership/surplus_assignments.sql
-- The rows that their deployments do not want: all rows of a deleted deployment, and of one that
-- was scaled down those beyond replicas. A replica that serves stays as long as possible. The
-- first to go are, in this order:
--   what waits, what stops or moves, what fails, what is on a silent node, what starts,
--   the second instance on a node, the highest ordinal
-- A process that was started again within the last minute fails, although it runs at the moment.
-- A survivor keeps its ordinal, because its process has it in its environment.
-- Rows of a handover go with their replica.
-- locks: none; the caller has locked the rows
create or replace function mooring_internal.surplus_assignments(deployments bigint[])
  returns bigint[]
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- joined by hash, as in release(): a set of thousands comes without statistics
  set enable_nestloop = off
  set jit = off
return array(
  with own as materialized (
    select a.id, a.deployment_id, a.ordinal, a.node_id, a.epoch, a.wanted, a.handover, d.replicas
      from mooring.assignment a
      left join mooring.deployment d
        on d.id = a.deployment_id
       and d.type = 'deployment'
       and d.id = any (surplus_assignments.deployments)
     where a.deployment_id = any (surplus_assignments.deployments) and a.ordinal is not null
  ),
  -- only these are ranked: few edits scale down
  crowded as materialized (
    select o.deployment_id
      from own o
     where o.replicas is not null
     group by o.deployment_id, o.replicas
    having count(distinct o.ordinal) > o.replicas
  ),
  replica as materialized (
    select distinct on (o.deployment_id, o.ordinal) o.*
      from own o
     where o.deployment_id in (select c.deployment_id from crowded c)
     order by o.deployment_id, o.ordinal, o.handover nulls first
  ),
  graded as (
    select p.deployment_id, p.ordinal, p.node_id, p.replicas,
        case when p.node_id is null then 5
             when p.wanted = 'stop' then 4
             when r.state in ('backoff', 'failed', 'refused')
               or r.restarts > 0 and r.last_active_at > clock_timestamp() - interval '1 minute'
               then 3
             when not mooring_internal.node_is_live(h) then 2
             when r.state is distinct from 'running' then 1
             else 0
             end as grade
      from replica p
      left join mooring.run r on r.assignment_id = p.id and r.epoch = p.epoch
      left join mooring.heartbeat h on h.node_id = p.node_id
  ),
  twinned as (
    select g.*,
        row_number() over (
          partition by g.deployment_id, g.node_id
              order by g.grade, g.ordinal) > 1 as is_twin
      from graded g
  ),
  ranked as (
    select w.*,
        row_number() over (
          partition by w.deployment_id
              order by w.grade, w.is_twin, w.ordinal) as rank
      from twinned w
  )
  select o.id
    from own o
   where o.replicas is null
  union all
  select o.id
    from own o
    join ranked k on k.deployment_id = o.deployment_id and k.ordinal = o.ordinal
   where k.rank > k.replicas);
comment on function mooring_internal.surplus_assignments(bigint[]) is
  'The rows of these deployments that are not wanted: of deleted ones all, of others what is '
  'beyond replicas. What serves stays.';
--! EndIncluded functions/ownership/surplus_assignments.sql
--! Included functions/ownership/make_assignments.sql
-- Makes rows what their deployments of type deployment want, whatever the rows were before:
--   a deployment has as many rows as replicas, see surplus_assignments()
--   a row that is owned and no longer wanted is ordered to stop; it keeps its row, and so its
--   fence, until its process is gone
--   a row that is pending and no longer wanted is deleted
-- locks: assignment rows of these deployments, in order of id
--   (no key update, which does not disturb assert_owner() of a workload)
create or replace function mooring_internal.make_assignments(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  unwanted bigint[];
begin
  -- waits for a transaction that releases or claims one of these rows, so that every statement
  -- below sees its result
  perform from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
   order by a.id
     for no key update;
  unwanted := mooring_internal.surplus_assignments(make_assignments.deployments);
  delete from mooring.assignment a
   where a.id = any (unwanted) and a.node_id is null;
  with judged as materialized (
    select b.id, d.id is null as is_deleted, not d.enabled as is_disabled,
        b.id = any (unwanted) as is_surplus,
        -- a row that stops only for a move stops for good now
        b.wanted = 'run' or b.move_reason is not null as goes_on
      from mooring.assignment b
      left join mooring.deployment d on d.id = b.deployment_id and d.type = 'deployment'
     where b.deployment_id = any (make_assignments.deployments)
       and b.ordinal is not null
       and b.node_id is not null
  ),
  stopping as (
    update mooring.assignment a
       set surplus = j.is_surplus,
           wanted = 'stop', move_to = null, move_reason = null,
           stop_reason = case when j.is_deleted then 'its deployment was deleted'
                              when j.is_disabled then 'its deployment is disabled'
                              else 'its deployment was scaled down' end
      from judged j
     where a.id = j.id and j.goes_on and (j.is_surplus or j.is_disabled)
    returning a.*
  ),
  -- what stops already goes for good, or comes back because its deployment wants more again
  counted as (
    update mooring.assignment a
       set surplus = j.is_surplus
      from judged j
     where a.id = j.id
       and a.surplus <> j.is_surplus
       and not (j.goes_on and (j.is_surplus or j.is_disabled))
  )
  insert into mooring.event (
    kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
  select 'stop_wanted', s.id, s.deployment_id, s.node_id, n.name, s.epoch, s.stop_reason,
      (select mooring_internal.actor())
    from stopping s
    left join mooring.node n on n.id = s.node_id
   order by s.id;
  perform mooring_internal.requeue(make_assignments.deployments);
  perform mooring_internal.insert_missing_assignments(make_assignments.deployments);
end;
$$;
comment on function mooring_internal.make_assignments(bigint[]) is
  'Makes the assignments of these deployments what their specs want.';
--! EndIncluded functions/ownership/make_assignments.sql
--! Included functions/ownership/note_namesakes.sql
-- What was given the name of a deleted deployment that still stops is noted. Called where a
-- deployment gets a name. claim() and make_daemons() look only at what was noted, so that a name
-- costs nothing as long as no instance of a deleted namesake lives.
create or replace function mooring_internal.note_namesakes(deployments bigint[]) returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.namesake (deployment_id, waits_for)
  select d.id, s.id
    from mooring_internal.stopping_deployment s
    join mooring.deployment d on d.name = s.name and d.id <> s.id
   where d.id = any (note_namesakes.deployments)
  on conflict do nothing;
end;
comment on function mooring_internal.note_namesakes(bigint[]) is
  'Notes which of these deployments have the name of a deleted one that still stops.';
--! EndIncluded functions/ownership/note_namesakes.sql
--! Included functions/ownership/waiting_for_namesakes.sql
-- Deployments that wait until a deleted deployment of their name has stopped, and the reason.
create or replace function mooring_internal.waiting_for_namesakes()
  returns table (deployment_id bigint, reason text)
  language sql stable security definer rows 1
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select w.deployment_id,
      format(
        'it waits until deployment %s, which had its name and was deleted, has stopped on %s',
        min(w.waits_for),
        string_agg(distinct n.name, ', ' order by n.name))
    from mooring_internal.namesake w
    join mooring.assignment a on a.deployment_id = w.waits_for
    join mooring.node n on n.id = a.node_id
   where not exists (select from mooring.deployment d where d.id = w.waits_for)
   group by w.deployment_id;
end;
comment on function mooring_internal.waiting_for_namesakes() is
  'Deployments that wait for the end of a deleted one of their name, and why.';
--! EndIncluded functions/ownership/waiting_for_namesakes.sql
--! Included functions/ownership/forget_stopped_names.sql
-- The notes about deleted deployments whose last instance has stopped go. Part of the evict round.
create or replace function mooring_internal.forget_stopped_names() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.stopping_deployment s
   where not exists (select from mooring.assignment a where a.deployment_id = s.id);
  delete from mooring_internal.namesake w
   where not exists (select from mooring.assignment a where a.deployment_id = w.waits_for)
      or not exists (select from mooring.deployment d where d.id = w.deployment_id);
end;
comment on function mooring_internal.forget_stopped_names() is
  'Forgets the names of deleted deployments that have stopped.';
--! EndIncluded functions/ownership/forget_stopped_names.sql
--! Included functions/ownership/make_daemons.sql
-- Daemons: an instance on every node that is permitted to run it. Instances on other nodes are
-- ordered to stop. A daemon's row is never pending: it is born owned. A node that is disabled,
-- draining or about to leave keeps its daemons and gets no new ones.
-- locks: assignment (skip locked: the next evict round finds the rows that were skipped)
create or replace function mooring_internal.make_daemons(
  deployments bigint[] default null,
  nodes int[] default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owners int[];
begin
  if not exists (select from mooring.deployment d where d.type = 'daemon')
     and not exists (select from mooring.assignment a where a.ordinal is null) then
    return;
  end if;
  with desired as materialized (
    select e.deployment_id, e.node_id, d.signature, e.enabled and e.not_draining as takes_new,
        coalesce(d.lease_ttl, s.lease_ttl) as lease_ttl
      from mooring_internal.eligibility((
             select array_agg(d.id)
               from mooring.deployment d
              where d.type = 'daemon'
                and d.enabled
                and (make_daemons.deployments is null
                  or d.id = any (make_daemons.deployments)))) e
      join mooring.deployment d on d.id = e.deployment_id
     cross join mooring.setting s
     where e.permitted and (make_daemons.nodes is null or e.node_id = any (make_daemons.nodes))
  ),
  made as (
    insert into mooring.assignment (
      deployment_id, ordinal, signature, node_id, epoch, lease_ttl, owner_reason, assigned_at)
    select d.deployment_id, null, d.signature, d.node_id, mooring_internal.next_epoch(0),
        d.lease_ttl, 'a daemon runs on every permitted node', clock_timestamp()
      from desired d
     -- on conflict alone would wait for a transaction that changes the existing row
     where d.takes_new
       and d.deployment_id <> all (array(
             select w.deployment_id from mooring_internal.waiting_for_namesakes() w))
       and not exists (
             select from mooring.assignment a
              where a.ordinal is null
                and a.deployment_id = d.deployment_id
                and a.node_id = d.node_id)
     order by d.deployment_id, d.node_id
    on conflict (deployment_id, node_id)
     where ordinal is null do nothing
    returning *
  ),
  unwanted as materialized (
    select b.id,
        case when d.id is null then 'its deployment was deleted'
             when not d.enabled then 'its deployment is disabled'
             else 'it is no longer permitted on the node' end as reason
      from mooring.assignment b
      left join mooring.deployment d on d.id = b.deployment_id and d.type = 'daemon'
     where b.ordinal is null
       and b.wanted = 'run'
       and (make_daemons.deployments is null or b.deployment_id = any (make_daemons.deployments))
       and (make_daemons.nodes is null or b.node_id = any (make_daemons.nodes))
       and not exists (
         select from desired w
          where w.deployment_id = b.deployment_id and w.node_id = b.node_id)
       for no key update of b skip locked
  ),
  stopping as (
    update mooring.assignment a
       set wanted = 'stop', stop_reason = u.reason
      from unwanted u
     where a.id = u.id and a.wanted = 'run'
    returning a.*
  ),
  outdated as materialized (
    select b.id, w.signature
      from mooring.assignment b
      join desired w on w.deployment_id = b.deployment_id and w.node_id = b.node_id
     where b.ordinal is null and b.signature <> w.signature
       for no key update of b skip locked
  ),
  respecified as (
    update mooring.assignment a
       set signature = o.signature
      from outdated o
     where a.id = o.id
  ),
  logged as (
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select c.kind, c.id, c.deployment_id, c.node_id, n.name, c.epoch, c.reason,
        (select mooring_internal.actor())
      from (select 'claimed' as kind, m.id, m.deployment_id, m.node_id, m.epoch,
                m.owner_reason as reason
              from made m
            union all
            select 'stop_wanted', s.id, s.deployment_id, s.node_id, s.epoch, s.stop_reason
              from stopping s) c
      left join mooring.node n on n.id = c.node_id
     order by c.id
  )
  select array_agg(m.node_id) into owners from made m;
  -- the rows are born owned without lock_placement(), which would have made the commit durable
  if owners is not null then
    perform mooring_internal.require_durable_commit();
  end if;
  perform mooring_internal.notify_nodes(owners);
end;
$$;
comment on function mooring_internal.make_daemons(bigint[], int[]) is
  'Makes the daemon instances of these deployments on these nodes (null: all) '
  'what specs and nodes want.';
--! EndIncluded functions/ownership/make_daemons.sql
--! Included functions/ownership/inconsistent_deployments.sql
-- The deployments whose assignments are not what they want:
--   it has fewer or more rows than replicas
--   an owner runs what is not wanted (what it already has to stop does not count)
--   a pending row is not as its deployment says, or waits under another signature
-- One join reads all rows, and one count for each deployment goes beside it.
-- Where a count is wrong, a second look counts ordinals: a row of a handover that lost its replica
-- becomes the replica, see advance_handovers() and release(), so no row may be made to wait beside
-- it.
-- locks: none
create or replace function mooring_internal.inconsistent_deployments() returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- with stale statistics the planner takes each side for one row, see release()
  set enable_nestloop = off
  -- the keys of 100,000 deployments are 7 MB, hashed in one piece
  set work_mem = '32MB'
as $$
declare
  inconsistent bigint[];
  miscounted bigint[];
begin
  select array_agg(a.deployment_id) into inconsistent
    from mooring.assignment a
    left join mooring.deployment d on d.id = a.deployment_id and d.type = 'deployment'
   where a.ordinal is not null
     and (
       a.signature <> mooring_internal.queue_signature(d.signature, a.refused_by)
       or case when a.node_id is null
               then d.id is null or d.enabled <> (a.wanted = 'run')
               else (a.wanted = 'run' or a.move_reason is not null)
                 and (d.id is null or not d.enabled or a.surplus)
               end);
  select array_agg(d.id) into miscounted
    from mooring.deployment d
    left join (
      select a.deployment_id, count(*) as present
        from mooring.assignment a
       where a.ordinal is not null and not a.surplus and a.handover is null
       group by a.deployment_id) c on c.deployment_id = d.id
   where d.type = 'deployment' and d.replicas <> coalesce(c.present, 0);
  if miscounted is not null then
    inconsistent := coalesce(inconsistent, '{}') || array(
      select d.id
        from mooring.deployment d
        left join mooring.assignment a on a.deployment_id = d.id and not a.surplus
       where d.id = any (miscounted)
       group by d.id
      having count(distinct a.ordinal) <> d.replicas);
  end if;
  return array(select distinct u.id from unnest(inconsistent) u (id) order by u.id);
end;
$$;
comment on function mooring_internal.inconsistent_deployments() is
  'Deployments whose assignments are not what they want; the evict round mends them.';
--! EndIncluded functions/ownership/inconsistent_deployments.sql
--! Included functions/ownership/mend_assignments.sql
-- Mends what no trigger handled, or what got lost: a claim or a handover that was committed behind
-- an edit, triggers that were switched off for a while, a restore of some tables.
-- Part of the evict round. Deployments and rows that another transaction holds wait for the next
-- round. So this neither waits for a forgotten transaction nor blocks claims, moves, handovers and
-- edits. make_assignments() looks again at the rows locked here, as they are by then.
-- locks: deployment, then assignment rows (both skip locked)
create or replace function mooring_internal.mend_assignments() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set enable_nestloop = off
  set lock_timeout = '1s'
as $$
declare
  inconsistent bigint[] := mooring_internal.inconsistent_deployments();
begin
  if inconsistent = '{}' then
    return 0;
  end if;
  inconsistent := array(
    select d.id
      from mooring.deployment d
     where d.id = any (inconsistent)
       for no key update skip locked)
    || array(
    select u.id
      from unnest(inconsistent) u (id)
     where not exists (select from mooring.deployment d where d.id = u.id));
  with locked as materialized (
    select a.id, a.deployment_id
      from mooring.assignment a
     where a.deployment_id = any (inconsistent)
     order by a.id
       for no key update skip locked
  ),
  held_by_others as materialized (
    select a.deployment_id
      from mooring.assignment a
     where a.deployment_id = any (inconsistent)
       and not exists (select from locked l where l.id = a.id)
  )
  select array_agg(u.id) into inconsistent
    from unnest(inconsistent) u (id)
   where not exists (select from held_by_others h where h.deployment_id = u.id);
  perform mooring_internal.make_assignments(inconsistent);
  return coalesce(cardinality(inconsistent), 0);
exception when lock_not_available then
  -- another transaction inserts these very rows, or a workload is inside assert_owner()
  return 0;
end;
$$;
comment on function mooring_internal.mend_assignments() is
  'Makes the assignments of inconsistent deployments what their specs want; '
  'returns the number of these deployments.';
--! EndIncluded functions/ownership/mend_assignments.sql
--! Included functions/ownership/assert_owner.sql
-- A workload calls it in its own transaction before it writes what must be written only once.
-- It passes MOORING_ASSIGNMENT_ID and MOORING_EPOCH from its environment.
-- It raises MR005 unless the caller still owns the assignment under that epoch. Otherwise it holds
-- that fact until the transaction ends, because a change of the epoch waits for its row lock.
-- A zombie cannot stop the failover for ever: its transaction may idle or run a statement only for
-- the rest of the lease, then the server ends it. Until then reap() leaves the row alone and names
-- this pid. A healthy workload that needs longer calls it again, because its lease goes on.
-- locks: assignment (key share)
create or replace function mooring.assert_owner(assignment bigint, epoch bigint) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  remaining interval;
  owner int;
begin
  select a.node_id into owner
    from mooring.assignment a
   where a.id = assert_owner.assignment
     and a.epoch = assert_owner.epoch
     and a.node_id is not null
     for key share;
  if owner is not null then
    -- read after the lock, because the lease may have ended while this waited for it
    select h.beat_at + a.lease_ttl - clock_timestamp() into remaining
      from mooring.assignment a
      join mooring.heartbeat h on h.node_id = a.node_id
     where a.id = assert_owner.assignment
       and a.epoch = assert_owner.epoch
       and a.node_id is not null;
  end if;
  if remaining is null or remaining <= interval '0' then
    raise exception using errcode = 'MR005',
      message = format('assignment %s is not owned under epoch %s any more', assignment, epoch),
      hint = 'Another instance runs or will run. Stop without writing anything.';
  end if;
  perform mooring_internal.limit_idle(remaining);
  perform mooring_internal.limit_transaction(remaining);
end;
$$;
comment on function mooring.assert_owner(bigint, bigint) is
  'Raises MR005 unless the assignment is still owned under this epoch with its lease running, '
  'and keeps it so until the transaction ends.';
--! EndIncluded functions/ownership/assert_owner.sql
--! Included functions/ownership/raise_no_such_assignment.sql
create or replace function mooring_internal.raise_no_such_assignment(id bigint) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  known text;
begin
  select string_agg(k.id::text, ', ' order by k.id) into known
    from (select a.id
            from mooring.assignment a
           order by abs(a.id - raise_no_such_assignment.id), a.id
           limit 3) k;
  raise exception using errcode = 'MR003',
    message = format('there is no assignment %s',
      coalesce(raise_no_such_assignment.id::text, 'null')),
    hint = coalesce('The nearest ids are ' || known || '; see mooring.placement.',
      'There are no assignments at all: insert a deployment.');
end;
$$;
comment on function mooring_internal.raise_no_such_assignment(bigint) is
  'Raises MR003 with the nearest ids.';
--! EndIncluded functions/ownership/raise_no_such_assignment.sql
--! Included functions/ownership/raise_if_freed_in_handover.sql
-- For edits by hand: a replica in a handover has two rows, and neither is freed or deleted alone.
create or replace function mooring_internal.raise_if_freed_in_handover(owned mooring.assignment)
  returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if exists (
    select from mooring_internal.handover_rows() c
     where c.replica = owned.id or c.id = owned.id) then
    raise exception using errcode = 'MR006',
      message = format('assignment %s is being handed over', owned.id),
      hint = 'Its other row is in mooring.placement, see handover. '
        'Leave both to reap(): it releases them when lease and margin have ended.';
  end if;
end;
$$;
comment on function mooring_internal.raise_if_freed_in_handover(mooring.assignment) is
  'Raises MR006 when the assignment is one of two rows of a replica that is being handed over.';
--! EndIncluded functions/ownership/raise_if_freed_in_handover.sql
--! Included functions/ownership/owner_may_run.sql
-- For edits by hand: whether the owner of a row may still run it.
-- It asks as reap() asks, under the lock of the heartbeat row. So no beat confirms in the meantime
-- what the edit takes away.
-- locks: heartbeat (skip locked: a beat in flight is a sign of life)
create or replace function mooring_internal.owner_may_run(
  owned mooring.assignment
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owner mooring.heartbeat;
  in_hold boolean;
begin
  select h.* into owner
    from mooring.heartbeat h
   where h.node_id = owned.node_id
     for update skip locked;
  if not found then
    return exists (select from mooring.heartbeat h where h.node_id = owned.node_id);
  end if;
  in_hold := mooring_internal.notice_outage();
  return in_hold
    or mooring_internal.lease_end(owner, owned) + (select s.reap_margin from mooring.setting s)
       >= clock_timestamp();
end;
$$;
comment on function mooring_internal.owner_may_run(mooring.assignment) is
  'True while the owner of an assignment may still run it: its lease and the margin run, a beat is '
  'in flight, or there is a hold. Keeps the owner''s heartbeat row locked.';
--! EndIncluded functions/ownership/owner_may_run.sql

-- moves: drains, handovers, rebalancing, moves by name
--! Included functions/moves/end_handovers.sql
-- Records handovers that end because one of the two rows is released: their events, and the reason
-- in the history of the row. A node that refused a successor is remembered in the replica's
-- refused_by, so the next successor goes to another node.
--   second_rows  released rows beside a replica
--   relieved     released replicas that leave such a row behind
-- locks: assignment rows (skip locked); the caller has locked the rows it names
create or replace function mooring_internal.end_handovers(
  second_rows bigint[],
  relieved bigint[],
  kind text,
  reason text
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- the history of what ends here takes its reason from the row
  update mooring.assignment a
     set stop_reason = end_handovers.reason
   where a.id = any (end_handovers.second_rows || end_handovers.relieved) and a.wanted = 'run';
  insert into mooring.event
    (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
  select p.kind, a.id, a.deployment_id, a.node_id, n.name, a.epoch,
      case p.kind
        when 'handed_over' then end_handovers.reason
        else 'its successor is given up: ' || end_handovers.reason
      end,
      mooring_internal.handover_detail(a.id, a.node_id, p.id, p.node_id)
    from (
      select c.id, c.node_id, c.replica,
          case
            when c.replica = any (end_handovers.relieved) then 'handed_over'
            else 'handover_failed'
          end as kind
        from mooring_internal.handover_rows() c
       where c.handover = 'arriving'
         and c.wanted = 'run'
         and (
           c.replica = any (end_handovers.relieved)
           or c.id = any (end_handovers.second_rows))) p
    join mooring.assignment a on a.id = p.replica
    left join mooring.node n on n.id = a.node_id
   order by a.id;
  if end_handovers.kind = 'refused' then
    update mooring.assignment a
       set refused_by = array_append(a.refused_by, c.node_id),
           signature = mooring_internal.queue_signature(
             d.signature, array_append(a.refused_by, c.node_id))
      from mooring_internal.handover_rows() c
      join mooring.deployment d on d.id = c.deployment_id
     where c.id = any (end_handovers.second_rows)
       and a.id = c.replica
       and c.node_id <> all (a.refused_by)
       and a.id in (
         select l.id
           from mooring.assignment l
          where l.id in (
            select o.replica
              from mooring_internal.handover_rows() o
             where o.id = any (end_handovers.second_rows))
            for no key update skip locked);
  end if;
end;
$$;
comment on function mooring_internal.end_handovers(bigint[], bigint[], text, text) is
  'Records how handovers end when the row beside a replica, or the replica itself, is released.';
--! EndIncluded functions/moves/end_handovers.sql
--! Included functions/moves/moves_under_way.sql
-- Assignments that are being moved from node to node. There are few at any time, and their own
-- index finds them. The planner is not left the choice: without statistics it takes them for nearly
-- all rows of the table and scans it from end to end.
create or replace function mooring_internal.moves_under_way() returns table (
  assignment_id bigint,
  deployment_id bigint,
  epoch bigint,
  node_id int,
  from_node int,
  to_node int,
  stopping boolean,
  handover text
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id, a.epoch, a.node_id,
        case
          when a.node_id is not null and a.wanted = 'stop' then a.node_id
          else a.last_node_id
        end,
        a.move_to,
        a.node_id is not null and a.wanted = 'stop',
        a.handover
      from mooring.assignment a
     where a.move_reason is not null;
end;
$$;
comment on function mooring_internal.moves_under_way() is
  'Assignments that are being moved: still stopping on from_node, pending (node_id null), or '
  'started on node_id and not yet observed running. Of a start-first move: the successor, then its '
  'predecessor.';
--! EndIncluded functions/moves/moves_under_way.sql
--! Included functions/moves/handover_rows.sql
-- The rows beside the replicas. There are few at any time, and their own index finds them;
-- moves_under_way() tells why the planner is not left the choice.
create or replace function mooring_internal.handover_rows() returns table (
  id bigint,
  handover text,
  wanted text,
  deployment_id bigint,
  node_id int,
  replica bigint
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
  set enable_nestloop = on
as $$
#variable_conflict use_column
begin
  return query
    select c.id, c.handover, c.wanted, c.deployment_id, c.node_id, a.id
      from mooring.assignment c
      left join mooring.assignment a
        on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
     where c.handover is not null;
end;
$$;
comment on function mooring_internal.handover_rows() is
  'The second rows of replicas that are being handed over, each with the replica it belongs to.';
--! EndIncluded functions/moves/handover_rows.sql
--! Included functions/moves/handover_detail.sql
-- Names both sides of a handover, for the detail of events.
create or replace function mooring_internal.handover_detail(
  from_id bigint,
  from_node int,
  to_id bigint,
  to_node int
) returns jsonb
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select jsonb_build_object(
    'from', jsonb_build_object(
      'assignment', handover_detail.from_id,
      'node', (select n.name from mooring.node n where n.id = handover_detail.from_node)),
    'to', jsonb_build_object(
      'assignment', handover_detail.to_id,
      'node', (select n.name from mooring.node n where n.id = handover_detail.to_node))));
comment on function mooring_internal.handover_detail(bigint, int, bigint, int) is
  'Detail of an event about a handover: from and to, each with assignment and node.';
--! EndIncluded functions/moves/handover_detail.sql
--! Included functions/moves/begin_handovers.sql
-- Makes a successor, on the node beside it, for each of these assignments that is start-first and
-- runs. Returns the ids of the assignments that got one. An assignment that does not run at the
-- moment has nothing to keep up and is moved stop-first, so that a drain ends although every
-- process fails.
-- locks: none beyond the rows, which the caller has locked; the caller holds placement
create or replace function mooring_internal.begin_handovers(
  ids bigint[],
  nodes int[],
  reason text
) returns bigint[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  begun bigint[];
begin
  with wish as materialized (
    select a.*, o.node_id as to_node, coalesce(d.lease_ttl, s.lease_ttl) as new_lease_ttl
      from unnest(begin_handovers.ids, begin_handovers.nodes) o (id, node_id)
      join mooring.assignment a
        on a.id = o.id and a.wanted = 'run' and a.handover is null and a.node_id <> o.node_id
      join mooring.deployment d
        on d.id = a.deployment_id
       and d.handover = 'start-first'
       and d.enabled
       and not a.surplus
      join mooring.run r
        on r.assignment_id = a.id and r.epoch = a.epoch and r.state = 'running'
     cross join mooring.setting s
  ),
  born as (
    insert into mooring.assignment (
      deployment_id, ordinal, handover, signature, refused_by, node_id, epoch, lease_ttl,
      owner_reason, move_reason, last_node_id, assigned_at, created_at, updated_at)
    select w.deployment_id, w.ordinal, 'arriving', w.signature, w.refused_by, w.to_node,
        mooring_internal.next_epoch(0), w.new_lease_ttl,
        'moved: ' || begin_handovers.reason, begin_handovers.reason, w.node_id,
        clock_timestamp(), w.created_at, w.updated_at
      from wish w
     order by w.id
    returning *
  ),
  -- Writes the row of the replica on purpose. A transaction that judges the replica by an older
  -- snapshot (a delete under repeatable read) then fails to serialise and cannot miss the
  -- successor.
  followed as (
    update mooring.assignment a
       set handover_failed_at = null,
           handover_error = null
      from wish w
     where a.id = w.id
  ),
  logged as (
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select e.kind, e.id, e.deployment_id, e.node_id, n.name, e.epoch, e.reason, e.detail
      from (
        select 'move_wanted' as kind, w.id, w.deployment_id, w.node_id, w.epoch,
            begin_handovers.reason as reason,
            mooring_internal.handover_detail(w.id, w.node_id, b.id, b.node_id)
              || jsonb_build_object('handover', 'start-first') as detail
          from wish w
          join born b on b.deployment_id = w.deployment_id and b.ordinal = w.ordinal
        union all
        select 'claimed', b.id, b.deployment_id, b.node_id, b.epoch, b.owner_reason, null
          from born b) e
      left join mooring.node n on n.id = e.node_id
     order by e.kind desc, e.id
  )
  select array_agg(w.id) into begun
    from wish w;
  return coalesce(begun, '{}');
end;
$$;
comment on function mooring_internal.begin_handovers(bigint[], int[], text) is
  'Starts successors of running start-first assignments, each on the node beside it. '
  'Returns the assignments that got one.';
--! EndIncluded functions/moves/begin_handovers.sql
--! Included functions/moves/advance_handovers.sql
-- One step of every handover, at the end of each claim(). A successor that runs, and has run for
-- setting.handover_settle, takes over. A successor that cannot come, or does not come up, is given
-- up; its predecessor runs on untouched. Returns true when any handover got on. The takeover is
-- decided here and not in the agent's report, for three reasons: only one decides under the
-- placement lock; an agent's call writes no other node's row; a process that ends a moment after
-- its start does not count as running.
-- locks: assignment rows (skip locked); the caller holds placement
create or replace function mooring_internal.advance_handovers() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  judged_at timestamptz := clock_timestamp();
  setting mooring.setting;
  concerned bigint[];
  locked bigint[];
  pair record;
  got_on boolean := false;
begin
  select array_agg(c.id) || array_remove(array_agg(c.replica), null) into concerned
    from mooring_internal.handover_rows() c
   where c.handover = 'arriving' and c.wanted = 'run';
  if concerned is null then
    return false;
  end if;
  select s.* into setting
    from mooring.setting s;
  select array_agg(l.id) into locked
    from (
      select a.id
        from mooring.assignment a
       where a.id = any (concerned)
       order by a.id
         for no key update skip locked) l;
  -- judged by a later statement than the one that locked;
  -- what was disabled or deleted meanwhile has its order to stop already
  for pair in
    select c as successor, a as replica, n.name as to_name,
        mooring_internal.handover_detail(a.id, a.node_id, c.id, c.node_id) as detail,
        j.verdict,
        -- false where waiting would not have helped: the next successor is tried at once
        d.handover = 'start-first' and n.draining_since is null and not h.leaving as rests
      from mooring.assignment c
      join mooring.deployment d
        on d.id = c.deployment_id and d.enabled and not c.surplus
      join mooring.node n on n.id = c.node_id
      join mooring.heartbeat h on h.node_id = c.node_id
      left join mooring.assignment a
        on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
      left join mooring.run r on r.assignment_id = c.id and r.epoch = c.epoch
     cross join lateral (
       select case
           when d.handover <> 'start-first' then 'its deployment is stop-first now'
           when r.state = 'running'
             and r.last_active_at <= judged_at - setting.handover_settle
             and mooring_internal.node_is_live(h)
             then 'it runs'
           when n.draining_since is not null or h.leaving
             then 'its node is draining or its agent is stopping'
           when r.state in ('backoff', 'failed') and r.restarts >= 3
             then 'it does not stay up there' || coalesce(': ' || r.last_error, '')
           when c.assigned_at < judged_at - setting.handover_timeout
             then format('it does not run there after %s', setting.handover_timeout)
               || coalesce(': ' || r.last_error, '')
         end as verdict) j
     where c.id = any (locked)
       and c.handover = 'arriving'
       and c.wanted = 'run'
       and (a.id is null or a.id = any (locked))
       and j.verdict is not null
     order by c.id
  loop
    got_on := true;
    if pair.verdict = 'it runs' then
      -- the predecessor first, so that there is one replica at any time
      update mooring.assignment a
         set handover = 'leaving',
             wanted = 'stop',
             stop_reason = format(
               'handed over to assignment %s on %s', (pair.successor).id, pair.to_name),
             move_to = null,
             move_reason = (pair.successor).move_reason
       where a.id = (pair.replica).id;
      update mooring.assignment a
         set handover = null,
             move_reason = null
       where a.id = (pair.successor).id;
    else
      update mooring.assignment a
         set wanted = 'stop',
             stop_reason = pair.verdict
       where a.id = (pair.successor).id;
      if pair.rests then
        update mooring.assignment a
           set handover_failed_at = judged_at,
               handover_error = format('its successor on %s: %s', pair.to_name, pair.verdict)
         where a.id = (pair.replica).id;
      end if;
    end if;
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
    select
        case when pair.verdict = 'it runs' then 'handed_over' else 'handover_failed' end,
        o.id,
        (pair.successor).deployment_id,
        o.node_id,
        n.name,
        o.epoch,
        case
          when pair.verdict = 'it runs' then format(
            'its successor runs: assignment %s on %s', (pair.successor).id, pair.to_name)
          else 'its successor is given up: ' || pair.verdict
        end,
        pair.detail
      from (
        select
            coalesce((pair.replica).id, (pair.successor).id) as id,
            coalesce((pair.replica).node_id, (pair.successor).node_id) as node_id,
            coalesce((pair.replica).epoch, (pair.successor).epoch) as epoch) o
      left join mooring.node n on n.id = o.node_id;
  end loop;
  return got_on;
end;
$$;
comment on function mooring_internal.advance_handovers() is
  'Lets successors that run take over, and gives up those that do not come up. '
  'Part of every claim(); true when any handover got on.';
--! EndIncluded functions/moves/advance_handovers.sql
--! Included functions/moves/raise_if_in_handover.sql
-- For verbs that order something of one assignment: they leave alone both rows of a replica that is
-- being handed over.
create or replace function mooring_internal.raise_if_in_handover(asked mooring.assignment)
  returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  other record;
begin
  select c.id, c.handover, n.name as node_name into other
    from mooring_internal.handover_rows() k
    join mooring.assignment c on c.id <> asked.id and c.id in (k.id, k.replica)
    left join mooring.node n on n.id = c.node_id
   where asked.id in (k.id, k.replica);
  if other.id is not null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s %s', asked.id, case
        when asked.handover = 'arriving' then format(
          'is the successor of assignment %s on %s and does not run yet',
          other.id, other.node_name)
        when asked.handover = 'leaving' then format(
          'has been handed over to assignment %s on %s', other.id, other.node_name)
        when other.handover = 'arriving' then format(
          'is being handed over to assignment %s on %s', other.id, other.node_name)
        else format(
          'has taken over from assignment %s, which still stops on %s',
          other.id, other.node_name) end),
      hint = case
        when asked.handover = 'leaving' then format(
          'Assignment %s has taken its place.', other.id)
        else
          'Wait until it is done: mooring events -f, or select * from mooring.last_events(20).'
      end;
  end if;
end;
$$;
comment on function mooring_internal.raise_if_in_handover(mooring.assignment) is
  'Raises MR006 when the assignment is one of two rows of a replica that is being handed over.';
--! EndIncluded functions/moves/raise_if_in_handover.sql
--! Included functions/moves/raise_hold.sql
create or replace function mooring_internal.raise_hold(done text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  raise exception using
    errcode = 'MR006',
    message = format(
      'nothing is %s during a hold: %s', raise_hold.done, mooring_internal.hold_reason()),
    hint = format(
      'It ends at %s; see mooring.fleet.',
      (select p.hold_until from mooring_internal.pulse p));
end;
$$;
comment on function mooring_internal.raise_hold(text) is
  'Raises MR006: a hold is on, so nothing is moved (or restarted, as `done` says).';
--! EndIncluded functions/moves/raise_hold.sql
--! Included functions/moves/within_budget.sql
-- Which of these assignments may be stopped now without taking their deployments below their
-- budget. Everything that stops instances of its own accord asks it under the placement lock:
-- drains, rebalancing, eviction. A deadline, a deletion, a disabled deployment and trust overrule
-- it, and so do verbs that name one assignment.
--   budget     a deployment of several replicas may lack one: replicas - 1 have to be available
--   available  it shall run, its node is live, and it is observed running under its epoch
-- What is not available serves no request. So it may be stopped at any time, and goes first.
-- A simulation says what it has moved so far: arrived runs elsewhere, under_way is stopped.
create or replace function mooring_internal.within_budget(
  ids bigint[],
  arrived bigint[] default '{}',
  under_way bigint[] default '{}'
) returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- sets of thousands whose sizes the planner cannot know, see release()
  set enable_nestloop = off
  set jit = off
as $$
declare
  replicated bigint[] := array(
    select d.id
      from mooring.deployment d
     where d.replicas > 1
       and d.id = any (array(
         select a.deployment_id
           from mooring.assignment a
          where a.id = any (within_budget.ids))));
begin
  if replicated = '{}' then
    return coalesce(within_budget.ids, '{}');
  end if;
  return array(
    with available as materialized (
      select a.id, a.deployment_id
        from mooring.assignment a
        join mooring.heartbeat h on h.node_id = a.node_id
        left join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       where a.deployment_id = any (replicated)
         and a.id <> all (within_budget.under_way)
         and (
           a.id = any (within_budget.arrived)
           or a.wanted = 'run'
             and a.handover is null
             and r.state = 'running'
             and mooring_internal.node_is_live(h))
    ),
    spare as materialized (
      select d.id as deployment_id, count(v.id) - (d.replicas - 1) as n
        from mooring.deployment d
        left join available v on v.deployment_id = d.id
       where d.id = any (replicated)
       group by d.id, d.replicas
    ),
    asked as materialized (
      select u.id, u.nr, v.deployment_id,
          row_number() over (partition by v.deployment_id order by u.nr) as place
        from unnest(within_budget.ids) with ordinality u (id, nr)
        left join available v on v.id = u.id
    )
    select k.id
      from asked k
      left join spare s on s.deployment_id = k.deployment_id
     where k.deployment_id is null or k.place <= s.n
     order by k.deployment_id is not null, k.nr);
end;
$$;
comment on function mooring_internal.within_budget(bigint[], bigint[], bigint[]) is
  'Those of these assignments that may be stopped now without taking a deployment of several '
  'replicas below all but one; what is not available comes first.';
--! EndIncluded functions/moves/within_budget.sql
--! Included functions/moves/place_moves.sql
-- place_moves: places stopped work on the node that its move promised, before claim() lets policies
-- choose. When the node cannot take it any more (it died, was disabled, filled up, or the spec was
-- edited), the promise is dropped with an event, and the assignment is pending like any other.
-- claim() and reassign() call it under the placement lock.
-- locks: assignment rows (skip locked); the caller holds placement
create or replace function mooring_internal.place_moves(
  ids bigint[] default null,
  max_rows int default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  first_epoch bigint := mooring_internal.next_epoch(0);
  waiting bigint[];
begin
  select array_agg(m.assignment_id) into waiting
    from mooring_internal.moves_under_way() m
   where m.node_id is null
     and m.to_node is not null
     and (place_moves.ids is null or m.assignment_id = any (place_moves.ids));
  if waiting is null then
    return;
  end if;
  select array_agg(l.id) into waiting
    from (
      select a.id, a.node_id, a.wanted, a.move_to
        -- No condition here that an index of the queue or of the owners answers. A plan made while
        -- that index is empty would scan it for ever.
        from mooring.assignment a
       where a.id = any (waiting) and a.move_reason is not null
       order by a.updated_at, a.created_at, a.id
       limit place_moves.max_rows
         for update skip locked) l
   where l.node_id is null and l.wanted = 'run' and l.move_to is not null;
  -- judged by later statements than the one that locked
  return query
    with mover as materialized (
      select a.id, a.deployment_id, a.move_to, a.move_reason, a.refused_by, a.updated_at,
          a.created_at, coalesce(d.lease_ttl, s.lease_ttl) as lease_ttl
        from mooring.assignment a
        join mooring.deployment d on d.id = a.deployment_id and d.enabled
       cross join mooring.setting s
       where a.id = any (waiting)
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from mover m)) l
    ),
    fit as materialized (
      -- without has_room, because it counts the places that are kept for these very assignments
      select e.deployment_id, e.node_id,
          coalesce(mooring_internal.reason_not_permitted(e), case
            when not e.live then 'the node is not live'
            when not e.enabled then 'the node is disabled'
            when not e.not_draining then 'the node is draining or its agent is stopping'
            when not e.disk_ok then 'the node has too little free disk'
          end) as obstacle
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.node_id in (select m.move_to from mover m)
    ),
    judged as materialized (
      select m.*, n.name as to_name, n.max_assignments,
          case
            when n.id is null then 'the node is gone'
            when m.move_to = any (m.refused_by) then 'its agent refused it, or it failed there'
            else f.obstacle
          end as obstacle
        from mover m
        join alike l on l.deployment_id = m.deployment_id
        left join mooring.node n on n.id = m.move_to
        left join fit f on f.deployment_id = l.representative and f.node_id = m.move_to
    ),
    decided as materialized (
      select j.id, j.move_to, j.to_name, j.move_reason, j.lease_ttl,
          coalesce(j.obstacle, case
            when coalesce(o.assigned, 0)
              + row_number() over (
                partition by j.move_to, j.obstacle is null
                order by j.updated_at, j.created_at, j.id)
              > j.max_assignments
              then 'the node has max_assignments already'
          end) as obstacle
        from judged j
        left join mooring_internal.assigned_per_node() o on o.node_id = j.move_to
    ),
    placed as (
      update mooring.assignment a
         set node_id = d.move_to,
             epoch = greatest(a.epoch + 1, first_epoch),
             lease_ttl = d.lease_ttl,
             owner_reason = 'moved: ' || d.move_reason,
             assigned_at = clock_timestamp(),
             waiting_since = null,
             move_to = null
        from decided d
       where a.id = d.id and d.obstacle is null
      returning a.*
    ),
    dropped as (
      update mooring.assignment a
         set move_to = null
        from decided d
       where a.id = d.id and d.obstacle is not null
      returning a.*
    ),
    logged as (
      insert into mooring.event
        (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
      select e.kind, e.id, e.deployment_id, e.node_id, e.node, e.epoch, e.reason
        from (
          select 'claimed' as kind, p.id, p.deployment_id, p.node_id, d.to_name as node, p.epoch,
              'moved: ' || d.move_reason as reason
            from placed p
            join decided d on d.id = p.id
          union all
          select 'move_dropped', r.id, r.deployment_id, null, null, r.epoch,
              format(
                'it cannot go to %s: %s', coalesce(d.to_name, 'node ' || d.move_to), d.obstacle)
            from dropped r
            join decided d on d.id = r.id) e
       order by e.id
    )
    select p.*
      from placed p;
end;
$$;
comment on function mooring_internal.place_moves(bigint[], int) is
  'Places pending work on the node its move named, where the node can still take it. '
  'Returns what it placed.';
--! EndIncluded functions/moves/place_moves.sql
--! Included functions/moves/drain_targets.sql
-- Where the work of a draining node can go. One row stands for all assignments that no node tells
-- apart; its node_ids are empty where no node can take them. advance_drains() acts on it, and view
-- drain_progress shows it.
-- Left out: what is being handed over, and what rests because its successor failed.
-- Policy none leaves the choice to an operator. To name one node as the target is that choice;
-- without it the row is unnamed.
create or replace function mooring_internal.drain_targets(node_id int) returns table (
  policy text,
  node_ids int[],
  ids bigint[],
  representative bigint,
  refused_by int[],
  unnamed boolean
)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- sets of thousands whose sizes the planner cannot know, see release()
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    with source as materialized (
      select n.id, n.drain_to
        from mooring.node n
       where n.id = drain_targets.node_id
    ),
    handed_over as materialized (
      select c.replica
        from mooring_internal.handover_rows() c
    ),
    owned as materialized (
      select a.id, a.signature, a.refused_by, a.deployment_id
        from mooring.assignment a
       cross join mooring.setting s
       where a.node_id = drain_targets.node_id
         and a.wanted = 'run'
         and a.ordinal is not null
         and a.handover is null
         and (
           a.handover_failed_at is null
           or a.handover_failed_at < clock_timestamp() - s.handover_timeout)
         and not exists (select from handed_over h where h.replica = a.id)
    ),
    kind as materialized (
      select o.signature, o.refused_by, min(o.deployment_id) as deployment_id
        from owned o
       group by o.signature, o.refused_by
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct k.deployment_id) from kind k)) l
    ),
    open as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       cross join source s
       where e.eligible
         and e.node_id <> s.id
         and (s.drain_to is null or e.node_id = s.drain_to)
       group by e.deployment_id
    ),
    class as materialized (
      select p.name as policy, p.kind = 'none' and s.drain_to is null as unnamed, p.kind,
          l.representative, o.refused_by, array_agg(o.id order by o.id) as ids
        from owned o
        join kind k on k.signature = o.signature and k.refused_by = o.refused_by
        join alike l on l.deployment_id = k.deployment_id
        join mooring.deployment d on d.id = k.deployment_id
       cross join mooring.setting g
       cross join source s
        join mooring.policy p on p.name = coalesce(d.policy, g.default_policy)
       group by p.name, p.kind, s.drain_to, l.representative, o.refused_by
    )
    select case when c.kind = 'none' then 'deployment_count' else c.policy end,
        t.node_ids, c.ids, c.representative, c.refused_by, c.unnamed
      from class c
      left join open f on f.deployment_id = c.representative
     cross join lateral (
       select case
           when c.unnamed then '{}'
           else array(
             select u.id
               from unnest(f.node_ids) u (id)
              where u.id <> all (c.refused_by)
              order by u.id)
         end as node_ids) t
     order by cardinality(t.node_ids), c.ids[1];
end;
$$;
comment on function mooring_internal.drain_targets(int) is
  'Where each class of work on a node could go if the node were drained; node_ids empty: nowhere.';
--! EndIncluded functions/moves/drain_targets.sql
--! Included functions/moves/drain_obstacles.sql
-- Why work of a draining node has nowhere to go, in words. It is apart from drain_targets(),
-- because finding the words for each node takes far longer than the choice.
create or replace function mooring_internal.drain_obstacles(node_id int)
  returns table (ids bigint[], why text)
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with blocked as materialized (
      select c.*
        from mooring_internal.drain_targets(drain_obstacles.node_id) c
       where c.node_ids = '{}'
    ),
    source as materialized (
      select n.id, n.drain_to, t.name as to_name
        from mooring.node n
        left join mooring.node t on t.id = n.drain_to
       where n.id = drain_obstacles.node_id
    ),
    reason as materialized (
      select e.deployment_id, e.node_id, mooring_internal.reason_not_eligible(e) as reason
        from mooring_internal.eligibility(
          (select array_agg(distinct b.representative) from blocked b where not b.unnamed)) e
       cross join source s
       where e.node_id <> s.id
         and (s.drain_to is null or e.node_id = s.drain_to)
    )
    select b.ids,
        case
          when b.unnamed then 'its policy is none: drain to a node by name, or reassign it'
          when s.drain_to is not null and s.to_name is null then
            'the node it was to be drained to is gone'
          when w.reasons is null then 'there is no other node: start an agent elsewhere'
          else
            coalesce(s.to_name || ' cannot take it: ', 'no other node can take it: ') || w.reasons
        end
      from blocked b
     cross join source s
     cross join lateral (
       select string_agg(
           t.reason || case when s.to_name is null then format(' (%s)', t.nodes) else '' end,
           ', ' order by t.nodes desc, t.reason) as reasons
         from (
           select coalesce(r.reason, 'its agent refused it, or it failed there') as reason,
               count(*) as nodes
             from reason r
            where r.deployment_id = b.representative
            group by 1) t) w
    union all
    select array_agg(a.id order by a.id),
        format('%s (tried again after %s)', a.handover_error, g.handover_timeout)
      from mooring.assignment a
     cross join mooring.setting g
     where a.node_id = drain_obstacles.node_id
       and a.wanted = 'run'
       and a.handover_failed_at >= clock_timestamp() - g.handover_timeout
     group by a.handover_error, g.handover_timeout;
end;
$$;
comment on function mooring_internal.drain_obstacles(int) is
  'The work of a node that has nowhere to go if the node is drained, and why.';
--! EndIncluded functions/moves/drain_obstacles.sql
--! Included functions/moves/advance_drains.sql
-- advance_drains: one step of every drain, at the end of each claim(). The README tells how a drain
-- goes on, why it is asked as seldom as it is, and why it never waits.
-- It starts from the rows as they are and remembers nothing. It runs under the placement lock, so
-- what a claim in flight gave the node before the drain was committed is found by the next step.
-- progress: a move got on since the last step, so the targets are worth another look.
-- locks: assignment rows, node (both skip locked); the caller holds placement
create or replace function mooring_internal.advance_drains(progress boolean default false)
  returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  started_at timestamptz := clock_timestamp();
  arrived bigint[];
  source mooring.node;
  class record;
  nodes mooring.node_state[];
  owned int;
  budget int;
  forced boolean;
  asked boolean;
  reason text;
  allowed bigint[];
  locked bigint[];
  chosen int[];
  step record;
begin
  -- observed running, or failing, at its target: the move is complete
  select array_agg(m.assignment_id) into arrived
    from mooring_internal.moves_under_way() m
    join mooring.run r on r.assignment_id = m.assignment_id and r.epoch = m.epoch
   where m.node_id is not null
     and not m.stopping
     and m.handover is null
     and r.state not in ('installing', 'starting');
  -- an update of no row would still fire the triggers of assignment
  if arrived is not null then
    update mooring.assignment a
       set move_reason = null
     where a.id = any (array(
       select l.id
         from mooring.assignment l
        where l.id = any (arrived)
          and l.move_reason is not null
          and l.move_to is null
          and l.wanted = 'run'
          for no key update skip locked));
  end if;
  if not exists (select from mooring.node n where n.draining_since is not null) then
    return;
  end if;
  asked := advance_drains.progress
    or arrived is not null
    or exists (
      select from mooring_internal.round r
       where r.name = 'place'
         and (
           r.done_at not between started_at - mooring_internal.round_interval('place') / 2
             and started_at
           or exists (select from mooring.node n where n.updated_at >= r.done_at)));
  for source in
    select n.*
      from mooring.node n
     where n.draining_since is not null
     order by n.drain_deadline_at <= clock_timestamp() desc nulls last, random()
  loop
    exit when clock_timestamp() > started_at + interval '100 ms';
    begin
      select count(*) into owned
        from mooring.assignment a
       where a.node_id = source.id and a.ordinal is not null;
      if (owned = 0) <> (source.drained_at is not null) then
        update mooring.node n
           set drained_at = case when owned = 0 then clock_timestamp() end
         where n.id = (
           select l.id
             from mooring.node l
            where l.id = source.id and l.draining_since is not null
              for no key update skip locked);
        if found and owned = 0 then
          perform mooring_internal.add_event(
            'node_drained',
            'nothing is left on it',
            source.id,
            jsonb_build_object('total', source.drain_total));
        end if;
      end if;
      -- a silent node is left to reap()
      continue when owned = 0
        or not asked
        or not exists (
          select from mooring.heartbeat h
           where h.node_id = source.id and mooring_internal.node_is_live(h));
      forced := coalesce(source.drain_deadline_at <= clock_timestamp(), false);
      reason := source.name || case
        when forced then ' is drained, and the deadline has passed'
        else ' is drained'
      end;
      budget := case
        when forced then owned
        else
          coalesce(source.drain_max_moves, (select s.drain_max_moves from mooring.setting s))
          - (
            select count(*)
              from mooring_internal.moves_under_way() m
             where m.from_node = source.id
               and m.handover is distinct from 'leaving')
      end;
      continue when budget <= 0;
      for class in
        select o.*
          from mooring_internal.drain_targets(source.id) o
         where o.node_ids <> '{}'
      loop
        exit when budget <= 0;
        allowed := case
          when forced then class.ids
          else mooring_internal.within_budget(class.ids)
        end;
        select array_agg(l.id) into locked
          from (
            select a.id
              from mooring.assignment a
             where a.id = any (allowed) and a.node_id = source.id and a.wanted = 'run'
             order by a.id
             limit budget
               for no key update skip locked) l;
        continue when locked is null;
        -- read again, because the loads count the places that the class before promised
        select array_agg(s) into nodes
          from mooring_internal.node_states() s;
        -- without last nodes: the node it leaves is no candidate
        step := mooring_internal.place_class(
          nodes,
          '{}',
          (class.policy, null, class.node_ids)::mooring_internal.placement_class,
          locked,
          array(
            select a.deployment_id
              from unnest(locked) with ordinality u (id, nr)
              join mooring.assignment a on a.id = u.id
             order by u.nr),
          '{}',
          true);
        chosen := step.chosen;
        continue when chosen = '{}';
        perform mooring_internal.order_moves(
          locked[1:cardinality(chosen)], chosen, reason, forced);
        budget := budget - cardinality(chosen);
      end loop;
      if forced then
        perform mooring_internal.order_moves(
          array(
            select a.id
              from mooring.assignment a
             where a.node_id = source.id and a.wanted = 'run' and a.ordinal is not null
             order by a.id
               for no key update skip locked),
          null,
          reason,
          true);
      end if;
    exception when others then
      perform mooring_internal.add_event('drain_failed', sqlerrm, source.id);
    end;
  end loop;
end;
$$;
comment on function mooring_internal.advance_drains(boolean) is
  'Moves the next of what draining nodes still run. Part of every claim(), which passes whether a '
  'move got on since the last step.';
--! EndIncluded functions/moves/advance_drains.sql
--! Included functions/moves/order_moves.sql
-- Orders the owners of these assignments to stop them, so that they can go to the nodes beside
-- them. A row stays with its owner until the owner reports that the processes are gone, or until
-- lease and margin have passed. Start-first work gets a successor instead, see begin_handovers();
-- with at_once it is stopped like the rest.
-- locks: none beyond the rows, which the caller has locked; the caller holds placement
create or replace function mooring_internal.order_moves(
  ids bigint[],
  nodes int[],
  reason text,
  at_once boolean default false
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  handed_over bigint[] := case
    when order_moves.at_once then '{}'
    else mooring_internal.begin_handovers(
      order_moves.ids, order_moves.nodes, order_moves.reason)
  end;
begin
  with ordered as (
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = case
             when a.wanted = 'run' then order_moves.reason
             else a.stop_reason
           end,
           move_to = o.node_id,
           move_reason = order_moves.reason
      from unnest(order_moves.ids, order_moves.nodes) o (id, node_id)
     where a.id = o.id and a.node_id is not null and a.id <> all (handed_over)
    returning a.*
  )
  insert into mooring.event
    (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
  select 'move_wanted', o.id, o.deployment_id, o.node_id, n.name, o.epoch, order_moves.reason,
      jsonb_build_object('to', t.name)
    from ordered o
    left join mooring.node n on n.id = o.node_id
    left join mooring.node t on t.id = o.move_to
   order by o.id;
end;
$$;
comment on function mooring_internal.order_moves(bigint[], int[], text, boolean) is
  'Orders the owners of these assignments to stop them, each to go to the node beside it (null: '
  'any node that may run it). Running start-first work gets a successor there instead, unless '
  'at_once.';
--! EndIncluded functions/moves/order_moves.sql
--! Included functions/moves/plan_partings.sql
-- plan_partings: which replicas should leave a node that has another of their deployment, and where
-- to. A failover puts twins on one node when nothing else is left; nothing parts them by itself.
-- A replica goes to the node with the least load that may run it and neither has nor is promised
-- another of its deployment. Work under a policy that is not of kind load stays, as in
-- plan_rebalance().
-- No cooldown: a parting makes no new twins, so repeated calls come to an end.
-- Reads only.
create or replace function mooring_internal.plan_partings(max_moves int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node int,
  to_node int
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  nodes mooring.node_state[];
  tried_before timestamptz :=
    clock_timestamp() - (select s.handover_timeout from mooring.setting s);
  handed_over bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.replica is not null);
  crowded_deployments bigint[];
  crowded_nodes int[];
  crowds bigint[];
  comes jsonb := '{}';
  budget int := plan_partings.max_moves;
  planned_deployments bigint[] := '{}';
  planned_nodes int[] := '{}';
  twin record;
  target int;
begin
  -- a replica counts where it is promised to be, and what only stops counts nowhere
  select array_agg(c.deployment_id), array_agg(c.node_id), array_agg(c.n)
    into crowded_deployments, crowded_nodes, crowds
    from (
      select a.deployment_id, coalesce(a.move_to, a.node_id) as node_id, count(*) as n
        from mooring.assignment a
       where coalesce(a.move_to, a.node_id) is not null
         and (a.wanted = 'run' or a.move_to is not null)
         and a.ordinal is not null
         and a.handover is null
         and a.id <> all (handed_over)
       group by 1, 2
      having count(*) > 1) c;
  if crowded_deployments is null then
    return;
  end if;
  nodes := array(select s from mooring_internal.node_states() s);
  for twin in
    with movable as materialized (
      select a.id, a.deployment_id, a.node_id, a.refused_by, c.n,
          row_number() over (
            partition by a.deployment_id, a.node_id
            order by a.assigned_at desc, a.id desc) as nr
        from unnest(crowded_deployments, crowded_nodes, crowds) c (deployment_id, node_id, n)
        join mooring.assignment a
          on a.deployment_id = c.deployment_id and a.node_id = c.node_id
        join mooring.deployment d on d.id = a.deployment_id and d.pinned_node is null
       cross join mooring.setting s
        join mooring.policy p
          on p.name = coalesce(d.policy, s.default_policy) and p.kind = 'load'
        join mooring.node n on n.id = a.node_id and n.draining_since is null
        join mooring.heartbeat h on h.node_id = n.id and mooring_internal.node_is_live(h)
       where a.wanted = 'run'
         and a.ordinal is not null
         and a.move_reason is null
         and a.handover is null
         and a.id <> all (handed_over)
         and (a.handover_failed_at is null or a.handover_failed_at < tried_before)
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from movable m)) l
    ),
    fit as materialized (
      select e.deployment_id, e.node_id
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
    ),
    free as materialized (
      select l.deployment_id, array_agg(f.node_id) as node_ids
        from alike l
        join fit f on f.deployment_id = l.representative
       where not exists (
         select
           from mooring.assignment b
          where b.deployment_id = l.deployment_id
            and b.handover is distinct from 'leaving'
            and (b.node_id = f.node_id or b.move_to = f.node_id))
       group by l.deployment_id
    )
    select m.id, m.deployment_id, m.node_id, m.refused_by, f.node_ids
      from movable m
      join free f on f.deployment_id = m.deployment_id
     where m.nr < m.n and m.nr <= cardinality(f.node_ids)
     order by m.nr, m.deployment_id, m.node_id
  loop
    exit when budget <= 0;
    select s.id into target
      from unnest(nodes) s
     cross join lateral (
       select s.assigned + coalesce((comes ->> s.id::text)::int, 0) as assigned) l
     where s.id = any (twin.node_ids)
       and s.id <> all (twin.refused_by)
       and l.assigned < coalesce(s.max_assignments, 2147483647)
       and not exists (
         select
           from unnest(planned_deployments, planned_nodes) p (deployment_id, node_id)
          where p.deployment_id = twin.deployment_id and p.node_id = s.id)
     order by (l.assigned + 1) * 100 / s.weight, s.id
     limit 1;
    continue when target is null;
    planned_deployments := planned_deployments || twin.deployment_id;
    planned_nodes := planned_nodes || target;
    comes := comes || jsonb_build_object(target, coalesce((comes ->> target::text)::int, 0) + 1);
    budget := budget - 1;
    assignment_id := twin.id;
    deployment_id := twin.deployment_id;
    from_node := twin.node_id;
    to_node := target;
    return next;
  end loop;
end;
$$;
comment on function mooring_internal.plan_partings(int) is
  'At most max_moves moves that part replicas of one deployment on one node. Locks and writes '
  'nothing.';
--! EndIncluded functions/moves/plan_partings.sql
--! Included functions/moves/plan_rebalance.sql
-- plan_rebalance: which running assignments are worth moving, one step after the other. The README
-- tells why repeated calls end with an empty plan. Twins are parted first, see plan_partings().
-- That is worth a move at any load, and gains 1. Later steps even out what it made uneven.
-- A step moves the assignment that costs most where it is to the cheapest node that may run it, if
-- it is cheaper there. Both costs are under its own policy, and count the places left and filled so
-- far. Never moved: pinned work, daemons, what is being moved or handed over, what rests because
-- its successor failed, what came to its node within setting.rebalance_cooldown, a replica to a
-- node that has another of its deployment. Work under a policy that is not of kind load stays,
-- because only these compare loads. Reads only.
create or replace function mooring_internal.plan_rebalance(max_moves int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node int,
  to_node int,
  gain float8
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  came_before timestamptz :=
    clock_timestamp() - (select s.rebalance_cooldown from mooring.setting s);
  nodes mooring.node_state[] := array(select s from mooring_internal.node_states() s);
  -- nodes whose work may leave; a draining node empties itself, a silent node is left to reap()
  sources int[] := array(
    select n.id
      from mooring.node n
      join mooring.heartbeat h on h.node_id = n.id
     where n.draining_since is null and mooring_internal.node_is_live(h));
  tried_before timestamptz :=
    clock_timestamp() - (select s.handover_timeout from mooring.setting s);
  handed_over bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.replica is not null);
  succeeded bigint[] := array(
    select c.replica
      from mooring_internal.handover_rows() c
     where c.handover = 'arriving' and c.wanted = 'run' and c.replica is not null);
  -- by node: what is about to leave or to come, and what comes by this plan
  shift jsonb := coalesce(
    (
      select jsonb_object_agg(l.node_id, -l.n)
        from (
          select a.node_id, count(*) as n
            from mooring.assignment a
           where a.node_id is not null
             and a.ordinal is not null
             and (
               a.wanted = 'stop' and a.move_to is distinct from a.node_id
               or a.id = any (succeeded))
           group by a.node_id) l),
    '{}');
  comes jsonb := '{}';
  kind record;
  in_force mooring.policy;
  open int[];
  parting record;
  target record;
  source record;
  mover mooring.assignment;
  budget int := plan_rebalance.max_moves;
  planned bigint[] := '{}';
  planned_deployments bigint[] := '{}';
  planned_nodes int[] := '{}';
begin
  for parting in
    select p.* from mooring_internal.plan_partings(plan_rebalance.max_moves) p
  loop
    planned := planned || parting.assignment_id;
    planned_deployments := planned_deployments || parting.deployment_id;
    planned_nodes := planned_nodes || parting.to_node;
    shift := shift || jsonb_build_object(
      parting.from_node, coalesce((shift ->> parting.from_node::text)::int, 0) - 1,
      parting.to_node, coalesce((shift ->> parting.to_node::text)::int, 0) + 1);
    comes := comes || jsonb_build_object(
      parting.to_node, coalesce((comes ->> parting.to_node::text)::int, 0) + 1);
    budget := budget - 1;
    assignment_id := parting.assignment_id;
    deployment_id := parting.deployment_id;
    from_node := parting.from_node;
    to_node := parting.to_node;
    gain := 1;
    return next;
  end loop;
  for kind in
    with owned as materialized (
      select a.signature, min(a.deployment_id) as deployment_id,
          min(a.refused_by) as refused_by, count(*) as n
        from mooring.assignment a
       where a.node_id is not null
         and a.wanted = 'run'
         and a.ordinal is not null
         and a.move_reason is null
         and a.assigned_at <= came_before
         and a.handover is null
       group by a.signature
    ),
    movable as materialized (
      select o.*, p.name as policy
        from owned o
        join mooring.deployment d on d.id = o.deployment_id and d.pinned_node is null
       cross join mooring.setting s
        join mooring.policy p
          on p.name = coalesce(d.policy, s.default_policy) and p.kind = 'load'
    ),
    alike as materialized (
      select l.deployment_id, l.representative
        from mooring_internal.eligibility_groups(
          (select array_agg(distinct m.deployment_id) from movable m)) l
    ),
    fit as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring_internal.eligibility(
          (select array_agg(distinct l.representative) from alike l)) e
       where e.eligible
       group by e.deployment_id
    )
    select m.policy, t.node_ids, array_agg(m.signature) as signatures
      from movable m
      join alike l on l.deployment_id = m.deployment_id
      join fit f on f.deployment_id = l.representative
     cross join lateral (
       select array(
         select u.id
           from unnest(f.node_ids) u (id)
          where u.id <> all (m.refused_by)
          order by u.id) as node_ids) t
     where t.node_ids <> '{}'
     group by m.policy, t.node_ids
     order by sum(m.n) desc, m.policy, t.node_ids
  loop
    open := kind.node_ids;
    in_force := mooring_internal.policy_in_force(nodes, open, kind.policy, null);
    while budget > 0 and open <> '{}' and in_force.kind = 'load' loop
      execute format($query$
        select c.id, c.cost
          from (
            select s.id,
                %s(s, coalesce(($3 ->> s.id::text)::int, 0) + 1) * 100 / s.weight as cost
              from unnest($1) s
             where s.id = any ($2)
               and s.assigned + coalesce(($4 ->> s.id::text)::int, 0)
                 < coalesce(s.max_assignments, 2147483647)) c
         where c.cost is not null
         order by c.cost, c.id
         limit 1
        $query$, in_force.cost_function)
        into target
        using nodes, open, shift, comes;
      exit when target.id is null;
      mover := null;
      for source in execute format($query$
        select c.id, c.cost
          from (
            select s.id, %s(s, coalesce(($3 ->> s.id::text)::int, 0)) * 100 / s.weight as cost
              from unnest($1) s
             where s.id = any ($2)) c
         where c.cost > $4 + 1e-9
         order by c.cost desc, c.id
        $query$, in_force.cost_function)
        using nodes, sources, shift, target.cost
      loop
        select a.* into mover
          from mooring.assignment a
         where a.node_id = source.id
           and a.wanted = 'run'
           and a.ordinal is not null
           and a.move_reason is null
           and a.assigned_at <= came_before
           and a.signature = any (kind.signatures)
           and a.id <> all (planned)
           and a.handover is null
           and a.id <> all (handed_over)
           and (a.handover_failed_at is null or a.handover_failed_at < tried_before)
           and not exists (
             select from mooring.assignment b
              where b.deployment_id = a.deployment_id
                and (b.node_id = target.id or b.move_to = target.id))
           and not exists (
             select from unnest(planned_deployments, planned_nodes) p (deployment_id, node_id)
              where p.deployment_id = a.deployment_id and p.node_id = target.id)
         order by a.assigned_at desc, a.id desc
         limit 1;
        exit when mover.id is not null;
      end loop;
      if mover.id is null then
        -- what could come here has another replica here, or costs no more where it is
        open := array_remove(open, target.id);
      else
        planned := planned || mover.id;
        planned_deployments := planned_deployments || mover.deployment_id;
        planned_nodes := planned_nodes || target.id;
        shift := shift || jsonb_build_object(
          source.id, coalesce((shift ->> source.id::text)::int, 0) - 1,
          target.id, coalesce((shift ->> target.id::text)::int, 0) + 1);
        comes := comes || jsonb_build_object(
          target.id, coalesce((comes ->> target.id::text)::int, 0) + 1);
        budget := budget - 1;
        assignment_id := mover.id;
        deployment_id := mover.deployment_id;
        from_node := source.id;
        to_node := target.id;
        gain := source.cost - target.cost;
        return next;
      end if;
    end loop;
  end loop;
end;
$$;
comment on function mooring_internal.plan_rebalance(int) is
  'At most max_moves moves that part replicas on one node (each gains 1) or make the load more '
  'even, with what each gains under its policy. Locks and writes nothing.';
--! EndIncluded functions/moves/plan_rebalance.sql
--! Included functions/moves/rebalance.sql
-- rebalance: parts twins and evens out the load when an operator calls it, because nothing moves
-- running work by itself. At most max_moves of its moves are under way at any time, so it may be
-- called again and again. Each move is executed like reassign(), by the handover of its deployment.
-- What becomes ineligible meanwhile goes wherever it may.
-- locks: none with dry_run; placement, then assignment rows (skip locked)
create or replace function mooring.rebalance(
  max_moves int default 10,
  dry_run boolean default true
) returns table (
  assignment_id bigint,
  deployment_id bigint,
  from_node text,
  to_node text,
  gain float8
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  reason constant text := 'rebalanced';
  under_way int;
  ids bigint[];
  deployments bigint[];
  sources int[];
  targets int[];
  gains float8[];
  locked bigint[];
  on_hold boolean;
begin
  if rebalance.max_moves < 1 or rebalance.max_moves is null or rebalance.dry_run is null then
    raise exception using
      errcode = 'MR007',
      message = case
        when rebalance.dry_run is null then 'dry_run is null'
        else format('max_moves is %s', coalesce(rebalance.max_moves::text, 'null'))
      end,
      hint = 'Give max_moves of 1 or more, and dry_run => false to move.';
  end if;
  if not rebalance.dry_run then
    perform mooring_internal.lock_placement(must_wait => true);
    on_hold := mooring_internal.notice_outage();
    if on_hold then
      perform mooring_internal.raise_hold('moved');
    end if;
  end if;
  select count(*) into under_way
    from mooring_internal.moves_under_way() m
    join mooring.assignment a on a.id = m.assignment_id
   where a.move_reason = reason
     and m.handover is distinct from 'leaving';
  select
      array_agg(p.assignment_id),
      array_agg(p.deployment_id),
      array_agg(p.from_node),
      array_agg(p.to_node),
      array_agg(p.gain)
    into ids, deployments, sources, targets, gains
    from mooring_internal.plan_rebalance(rebalance.max_moves - under_way) p;
  if not rebalance.dry_run and ids is not null then
    select array_agg(l.id) into locked
      from (
        select a.id
          from unnest(ids, sources) o (id, node_id)
          join mooring.assignment a on a.id = o.id and a.node_id = o.node_id
         where a.wanted = 'run' and a.move_reason is null
         order by a.id
           for no key update of a skip locked) l;
    -- what is left out is worth its move at the next call
    locked := mooring_internal.within_budget(coalesce(locked, '{}'));
    perform mooring_internal.order_moves(
      locked,
      array(
        select targets[array_position(ids, u.id)]
          from unnest(locked) with ordinality u (id, nr)
         order by u.nr),
      reason);
    perform mooring_internal.add_event(
      'rebalance_started',
      'by an operator',
      detail => jsonb_build_object(
        'moves', coalesce(cardinality(locked), 0),
        'max_moves', rebalance.max_moves));
  end if;
  return query
    select p.id, p.deployment_id, f.name, t.name, p.gain
      from unnest(ids, deployments, sources, targets, gains)
        with ordinality p (id, deployment_id, from_node, to_node, gain, nr)
      left join mooring.node f on f.id = p.from_node
      left join mooring.node t on t.id = p.to_node
     where rebalance.dry_run or p.id = any (locked)
     order by p.nr;
end;
$$;
comment on function mooring.rebalance(int, boolean) is
  'Parts replicas that share a node and evens out the load, by at most max_moves moves at a time; '
  'returns them with what each gains. '
  'It only shows them unless dry_run is false.';
--! EndIncluded functions/moves/rebalance.sql
--! Included functions/moves/lock_to_move.sql
-- lock_to_move: the placement lock and the row that is to be moved, both or none.
-- Placement comes first in the order of locks, and nothing is placed while it is held. So when the
-- row is locked (by an uncommitted edit of its deployment, for example), the function releases
-- placement, waits for the row alone, and begins again. It tries for 5 s.
-- locks: placement, then assignment (its row)
create or replace function mooring_internal.lock_to_move(assignment bigint)
  returns mooring.assignment
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  patience constant interval := '5 s';
  until constant timestamptz := clock_timestamp() + patience;
  row mooring.assignment;
  waited boolean;
  holder int;
begin
  loop
    -- a block that fails releases the locks it took
    begin
      perform mooring_internal.lock_placement(must_wait => true);
      select a.* into row
        from mooring.assignment a
       where a.id = lock_to_move.assignment
         for no key update nowait;
      if row.id is null then
        perform mooring_internal.raise_no_such_assignment(lock_to_move.assignment);
      end if;
      return row;
    exception when lock_not_available then
      null;
    end;
    waited := false;
    begin
      perform set_config(
        'lock_timeout',
        greatest(1, mooring_internal.milliseconds(until - clock_timestamp()))::text,
        true);
      perform from mooring.assignment a
        where a.id = lock_to_move.assignment
          for no key update;
      waited := true;
      raise lock_not_available;
    exception when lock_not_available then
      null;
    end;
    if not waited or clock_timestamp() > until then
      select min(l.pid) into holder
        from mooring.assignment a
        join pg_locks l on l.transactionid = a.xmax and l.granted
       where a.id = lock_to_move.assignment;
      raise exception using
        errcode = 'MR004',
        message = format(
          'assignment %s has been locked by another transaction for more than %s',
          lock_to_move.assignment, patience),
        detail = coalesce(
          format('pid %s holds it', holder),
          'several transactions hold it, or a prepared one'),
        hint = 'That transaction changes the deployment, or assigns a node by hand: '
          || coalesce(
            format(
              'look at it in pg_stat_activity; end it with select pg_terminate_backend(%s).',
              holder),
            'see pg_locks and pg_prepared_xacts.');
    end if;
  end loop;
end;
$$;
comment on function mooring_internal.lock_to_move(bigint) is
  'Takes the placement lock and the row of an assignment. After 5 s it raises MR004, which names '
  'the pid that holds the row. Placement goes on while it waits.';
--! EndIncluded functions/moves/lock_to_move.sql
--! Included functions/moves/reassign.sql
-- reassign: moves one assignment to a node by name.
-- What runs is stopped by its owner first. It is placed when the owner reports that its processes
-- are gone, or when lease and margin have passed, so there is no moment with two owners.
-- Start-first work that runs gets a successor on the target instead, which is returned; the owner
-- stops when the successor runs. Pending work is placed at once. A place is kept on the target
-- meanwhile. When the move gets there the target is judged again; if it cannot take the work any
-- more, the work goes wherever it may, with an event. A second call changes the target of a move
-- under way. During a handover it raises MR006.
-- locks: placement, then assignment (its row, waiting 5 s at most, see lock_to_move)
create or replace function mooring.reassign(assignment bigint, target text)
  returns mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  row mooring.assignment;
  node mooring.node;
  owner text;
  spec mooring.deployment;
  fit record;
  obstacle text;
  on_hold boolean;
begin
  row := mooring_internal.lock_to_move(reassign.assignment);
  node := mooring_internal.node_named(reassign.target);
  select n.name into owner
    from mooring.node n
   where n.id = row.node_id;
  select d.* into spec
    from mooring.deployment d
   where d.id = row.deployment_id;
  if row.ordinal is null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is a daemon''s and stays on %s', row.id, owner),
      hint = 'A daemon runs on every permitted node: change its selector, or stop the agent.';
  elsif spec.id is null or not spec.enabled or row.surplus then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s is not to run: its deployment %s',
        row.id,
        case
          when spec.id is null then 'was deleted'
          when not spec.enabled then 'is disabled'
          else 'was scaled down'
        end),
      hint = case
        when spec.id is not null and not spec.enabled then format(
          'Enable it first: update mooring.deployment set enabled = true where id = %s;', spec.id)
        else 'There is nothing to move.'
      end;
  end if;
  perform mooring_internal.raise_if_in_handover(row);
  if row.node_id = node.id and row.wanted = 'run' then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is on %s already', row.id, node.name),
      hint = format(
        'To restart it there: select * from mooring.restart(%s), or mooring restart assignment %s.',
        row.id, row.id);
  end if;
  select e.* into strict fit
    from mooring_internal.eligibility(array[row.deployment_id]) e
   where e.node_id = node.id;
  -- the place that is kept for it already is no obstacle
  fit.has_room := fit.has_room or row.move_to is not distinct from node.id;
  obstacle := coalesce(
    mooring_internal.reason_not_eligible(fit),
    case when node.id = any (row.refused_by) then 'its agent refused it, or it failed there' end);
  if obstacle is not null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s cannot go to %s: %s', row.id, node.name, obstacle),
      hint = case
        when not fit.pin_ok then format(
          'It is pinned to %s: change pinned_node of deployment %s, and it moves by itself.',
          spec.pinned_node, spec.id)
        when not fit.selector_ok then format(
          'The node needs the labels %s: label it with upsert_node(), or change the selector.',
          spec.selector)
        when not fit.driver_ok then 'Start its agent with --allow-exec.'
        when not fit.trust_ok then 'Start its agent with a wider --trust.'
        when not fit.urls_ok then 'Give the node both base URLs with upsert_node().'
        when not fit.live then 'Start its agent.'
        when not fit.enabled then format(
          'Enable it: select from mooring.set_node_enabled(%L, true), or mooring enable node %s.',
          node.name, node.name)
        when not fit.not_draining then format(
          'End the drain: select from mooring.undrain_node(%L), or mooring undrain %s.',
          node.name, node.name)
        when not fit.has_room then 'Raise its max_assignments with upsert_node().'
        when not fit.disk_ok then 'Free disk space there, or lower setting.disk_free_min_pct.'
        else 'See last_error in mooring.placement; after an edit of its spec the agent tries again.'
      end || format(' See mooring.explain(%s).', spec.id);
  end if;
  on_hold := mooring_internal.notice_outage();
  if on_hold then
    perform mooring_internal.raise_hold('moved');
  end if;
  if row.node_id is not null then
    perform mooring_internal.order_moves(
      array[row.id], array[node.id], format('reassigned to %s', node.name));
  else
    update mooring.assignment a
       set move_to = node.id,
           move_reason = format('reassigned to %s', node.name)
     where a.id = row.id;
    perform mooring_internal.place_moves(ids => array[row.id]);
  end if;
  select a.* into row
    from mooring.assignment a
   where a.id = coalesce(
     (select c.id from mooring_internal.handover_rows() c where c.replica = row.id),
     row.id);
  return row;
end;
$$;
comment on function mooring.reassign(bigint, text) is
  'Moves an assignment to a node: its owner stops it, and then it is placed there. Of start-first '
  'work it returns the successor there. MR006 says why an assignment cannot go there, with the way '
  'out.';
--! EndIncluded functions/moves/reassign.sql
--! Included functions/moves/restart.sql
-- restart: stops one assignment and starts it again on its node, under a new epoch.
-- It is a move to its own node, so a place is kept for it. When the node dies, is disabled or is
-- drained meanwhile, it goes on like any move: after lease and margin, wherever it may go, with an
-- event. The row of a daemon ends, and a new one is made.
-- It raises MR006 where the assignment would be lost: its node would not take it back, and no other
-- node can. A whole deployment needs no verb: add 1 to its generation.
-- locks: placement, then assignment (its row, waiting 5 s at most, see lock_to_move)
create or replace function mooring.restart(assignment bigint, reason text default null)
  returns mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  why constant text :=
    'restarted' || coalesce(': ' || left(nullif(restart.reason, ''), 200), '');
  row mooring.assignment;
  owner text;
  spec mooring.deployment;
  fit record;
  obstacle text;
  on_hold boolean;
begin
  row := mooring_internal.lock_to_move(restart.assignment);
  select n.name into owner
    from mooring.node n
   where n.id = row.node_id;
  select d.* into spec
    from mooring.deployment d
   where d.id = row.deployment_id;
  perform mooring_internal.raise_if_in_handover(row);
  on_hold := mooring_internal.notice_outage();
  if row.wanted = 'stop' then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s is to stop already: %s',
        row.id,
        coalesce(
          row.stop_reason, format('its deployment %s is disabled', row.deployment_id))),
      hint = case
        when row.move_reason is not null then
          'It starts again by itself: see mooring.placement.'
        else 'There is nothing to restart.'
      end;
  elsif spec.id is null then
    -- a daemon's row; the next round orders it to stop
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s is to stop: its deployment was deleted', row.id),
      hint = 'There is nothing to restart.';
  elsif row.node_id is null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s waits for a node and does not run', row.id),
      hint = format('See mooring.unplaced and mooring.explain(%s).', row.deployment_id);
  elsif on_hold then
    perform mooring_internal.raise_hold('restarted');
  end if;
  select e.* into strict fit
    from mooring_internal.eligibility(array[row.deployment_id]) e
   where e.node_id = row.node_id;
  if not fit.live then
    raise exception using
      errcode = 'MR006',
      message = format(
        'the agent of %s is silent and would not restart assignment %s', owner, row.id),
      hint = 'Wait until the agent beats again. If it stays silent, its work goes elsewhere when '
        'the lease and the margin have passed.';
  elsif row.ordinal is null then
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = why
     where a.id = row.id
    returning a.* into row;
    insert into mooring.event
      (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
    values ('stop_wanted', row.id, row.deployment_id, row.node_id, owner, row.epoch, why);
    return row;
  end if;
  -- the place it leaves is its own
  fit.has_room := true;
  obstacle := mooring_internal.reason_not_eligible(fit);
  if obstacle is not null
    and (
      (
        select p.kind
          from mooring.setting s
          join mooring.policy p on p.name = coalesce(spec.policy, s.default_policy)) = 'none'
      or not exists (
        select from mooring_internal.eligibility(array[row.deployment_id]) e
         where e.eligible and e.node_id <> all (row.refused_by)))
  then
    raise exception using
      errcode = 'MR006',
      message = format(
        'assignment %s would not start again: %s would not take it back (%s), '
        'and no other node can',
        row.id, owner, obstacle),
      hint = format('It runs on. See mooring.explain(%s).', row.deployment_id);
  end if;
  -- stop-first whatever its deployment says: beside itself on one node it would use the same port
  -- and folder
  perform mooring_internal.order_moves(
    array[row.id], array[row.node_id], why, at_once => true);
  select a.* into row
    from mooring.assignment a
   where a.id = row.id;
  return row;
end;
$$;
comment on function mooring.restart(bigint, text) is
  'Stops an assignment and starts it again on its node. '
  'To restart all of a deployment, add 1 to its generation.';
--! EndIncluded functions/moves/restart.sql
--! Included functions/moves/drain_node.sql
-- drain_node: closes a node at once and moves away what it runs, a bounded number at a time.
-- advance_drains() does the moving, and view drain_progress shows it. A second call changes target,
-- max_moves and deadline of the same drain.
--   target     everything goes there; what cannot is blocked. null: wherever each may run
--   max_moves  how many are moved at the same time; null: setting.drain_max_moves
--   deadline   after this time everything left is stopped at once, whether or not another node can
--              take it; null: never
-- Daemons stay, because they end with the node's agent.
-- locks: node
create or replace function mooring.drain_node(
  name text,
  target text default null,
  max_moves int default null,
  deadline interval default null
) returns table (node text, total int, "left" int, moving int, blocked int, why text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  source mooring.node := mooring_internal.node_named(drain_node.name);
  destination mooring.node;
  beat mooring.heartbeat;
  begun boolean;
begin
  if drain_node.max_moves < 1 then
    raise exception using
      errcode = 'MR007',
      message = format('max_moves is %s', drain_node.max_moves),
      hint = 'Leave it out for setting.drain_max_moves, or give 1 or more.';
  elsif drain_node.deadline < interval '0' or drain_node.deadline > interval '100 years' then
    raise exception using
      errcode = 'MR007',
      message = format('the deadline is %s', drain_node.deadline),
      hint = 'It is counted from now: ''10 min'', or ''0'' to stop everything at once.';
  end if;
  if drain_node.target is not null then
    destination := mooring_internal.node_named(drain_node.target);
    select h.* into beat
      from mooring.heartbeat h
     where h.node_id = destination.id;
    if destination.id = source.id then
      raise exception using
        errcode = 'MR007',
        message = format('%s cannot be drained to itself', source.name),
        hint = 'Name another node, or none: then each goes wherever it may run.';
    elsif not mooring_internal.node_is_live(beat)
      or not destination.enabled
      or destination.draining_since is not null
      or beat.leaving
    then
      raise exception using
        errcode = 'MR006',
        message = format(
          '%s takes no new work: it is %s',
          destination.name,
          case
            when not mooring_internal.node_is_live(beat) then 'not live'
            when not destination.enabled then 'disabled'
            when destination.draining_since is not null then 'draining'
            else 'leaving'
          end),
        hint = 'Name another node, or none: then each goes wherever it may run.';
    end if;
  end if;
  perform mooring_internal.limit_idle();
  begun := source.draining_since is null;
  update mooring.node n
     set draining_since = coalesce(n.draining_since, clock_timestamp()),
         drain_to = destination.id,
         drain_max_moves = drain_node.max_moves,
         drain_deadline_at = clock_timestamp() + drain_node.deadline,
         drain_total = coalesce(
           n.drain_total,
           (
             select count(*)
               from mooring.assignment a
              where a.node_id = n.id and a.ordinal is not null))
   where n.id = source.id
  returning n.* into source;
  if not found then
    perform mooring_internal.raise_no_such_node(drain_node.name);
  end if;
  perform mooring_internal.add_event(
    case when begun then 'drain_started' else 'drain_changed' end,
    'by an operator',
    source.id,
    jsonb_strip_nulls(jsonb_build_object(
      'total', source.drain_total,
      'to', destination.name,
      'max_moves', source.drain_max_moves,
      'deadline_at', source.drain_deadline_at)));
  -- the claim that this requests takes the first step, once this is committed
  perform mooring_internal.enqueue('place');
  return query
    select p.node, p.total, p."left", p.moving, p.blocked, p.why
      from mooring.drain_progress p
     where p.node = source.name;
end;
$$;
comment on function mooring.drain_node(text, text, int, interval) is
  'Closes a node and moves away what it runs, max_moves at a time, all to target if one is given. '
  'After deadline, counted from now, everything left is stopped at once. '
  'Returns what is to be done; view drain_progress shows how far it is.';
--! EndIncluded functions/moves/drain_node.sql
--! Included functions/moves/undrain_node.sql
-- undrain_node: ends a drain, complete or not, and opens the node again. What was ordered to stop
-- goes on to its target; nothing else moves.
-- locks: node
create or replace function mooring.undrain_node(name text) returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(undrain_node.name);
begin
  perform mooring_internal.limit_idle();
  update mooring.node n
     set draining_since = null
   where n.id = node.id and n.draining_since is not null
  returning n.* into node;
  if found then
    perform mooring_internal.add_event('drain_ended', 'by an operator', node.id);
    return node;
  end if;
  return mooring_internal.node_named(undrain_node.name);
end;
$$;
comment on function mooring.undrain_node(text) is
  'Ends the drain of a node and opens it for new work.';
--! EndIncluded functions/moves/undrain_node.sql

-- explain: why something runs where it runs, and what would happen if
--! Included functions/explain/reason_not_permitted.sql
-- The predicates of eligibility() in words, in the order in which they are asked.
create or replace function mooring_internal.reason_not_permitted(predicates record) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when not predicates.pin_ok then 'it is pinned to another node'
    when not predicates.selector_ok then 'the node lacks labels of the selector'
    when not predicates.driver_ok then
      'the node does not run this kind of work '
      '(see node.drivers; custom commands, and variables such as PATH, need --allow-exec)'
    when not predicates.trust_ok then 'the node does not trust the package'
    when not predicates.urls_ok then 'the node does not have both base URLs'
  end;
end;
$$;
comment on function mooring_internal.reason_not_permitted(record) is
  'Why a row of eligibility() is not permitted; null when it is.';
--! EndIncluded functions/explain/reason_not_permitted.sql
--! Included functions/explain/reason_not_eligible.sql
create or replace function mooring_internal.reason_not_eligible(predicates record) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return coalesce(mooring_internal.reason_not_permitted(predicates), case
    when not predicates.live then 'the node is not live'
    when not predicates.enabled then 'the node is disabled'
    when not predicates.not_draining then 'the node is draining or its agent is stopping'
    when not predicates.has_room then 'the node has max_assignments already'
    when not predicates.disk_ok then 'the node has too little free disk'
  end);
end;
$$;
comment on function mooring_internal.reason_not_eligible(record) is
  'Why a row of eligibility() is not eligible for new work; null when it is.';
--! EndIncluded functions/explain/reason_not_eligible.sql
--! Included functions/explain/missing_labels.sql
create or replace function mooring_internal.missing_labels(labels jsonb, selector jsonb)
  returns jsonb
  language sql stable parallel safe
return (
  select jsonb_object_agg(e.key, e.value)
    from jsonb_each(missing_labels.selector) e
   where not mooring_internal.label_texts(missing_labels.labels)
     @> mooring_internal.label_texts(jsonb_build_object(e.key, e.value)));
comment on function mooring_internal.missing_labels(jsonb, jsonb) is
  'The part of the selector that the labels lack.';
--! EndIncluded functions/explain/missing_labels.sql
--! Included functions/explain/remedy_if_not_eligible.sql
-- The way out for one node. It is apart from the reason, because reasons that are counted over many
-- nodes have to be equal.
create or replace function mooring_internal.remedy_if_not_eligible(
  predicates record,
  node mooring.node,
  beat mooring.heartbeat,
  spec mooring.deployment,
  disk_free_min_pct float8
) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return case
    when not predicates.pin_ok then format(
      '%s; change pinned_node to have it here', spec.pinned_node)
    when not predicates.selector_ok then format(
      '%s; label it with upsert_node(%L, labels => %L), or change the selector',
      mooring_internal.missing_labels(node.labels, spec.selector),
      node.name,
      mooring_internal.missing_labels(node.labels, spec.selector))
    when not predicates.driver_ok then case
      when spec.command is not null and not node.drivers @> '{exec}'
        then 'start its agent with --allow-exec'
      when not node.drivers @> '{exec}' and mooring_internal.code_variables(spec.env) <> '{}'
        then format(
          'its env sets %s, which decides what code runs: '
          'take that out, or start its agent with --allow-exec',
          array_to_string(mooring_internal.code_variables(spec.env), ', '))
      else 'start an agent there that has the driver npm'
    end
    when not predicates.trust_ok then format(
      '%s@%s, it trusts %s; start its agent with a wider --trust',
      spec.package_name, spec.package_version, coalesce(node.trusts, 'nothing'))
    when not predicates.urls_ok then format(
      '%s; give them with upsert_node(%L, ...)',
      concat_ws(
        ' and ',
        case when node.agent_base_url is null then 'agent_base_url' end,
        case when node.gateway_base_url is null then 'gateway_base_url' end),
      node.name)
    when not predicates.live then format(
      '%s; start its agent',
      case
        when beat.beat_at is null then 'it never registered'
        when beat.session is null then 'its agent has left'
        else format(
          'no beat for %s',
          mooring_internal.format_duration(clock_timestamp() - beat.beat_at))
      end)
    when not predicates.enabled then format('set_node_enabled(%L, true)', node.name)
    when not predicates.not_draining then case
      when node.draining_since is not null then format('undrain_node(%L)', node.name)
      when mooring_internal.node_is_held(node.held_until)
        then format('it is held until its agent starts again: hold_node(%L, ''0'')', node.name)
      else 'start it again'
    end
    when not predicates.has_room then format(
      '%s; raise it with upsert_node(%L, max_assignments => %s)',
      node.max_assignments, node.name, node.max_assignments + 1)
    when not predicates.disk_ok then format(
      '%s %%, and %s %% are needed; free some, or lower setting.disk_free_min_pct',
      round(beat.disk_free_pct::numeric, 1), disk_free_min_pct)
  end;
end;
$$;
comment on function mooring_internal.remedy_if_not_eligible(
  record, mooring.node, mooring.heartbeat, mooring.deployment, float8) is
  'What makes a row of eligibility() eligible: the way out of the first predicate that fails. '
  'null when it is eligible.';
--! EndIncluded functions/explain/remedy_if_not_eligible.sql
--! Included functions/explain/pending_reason_text.sql
-- The words of pending_reasons(): each names what is in the way and the next step.
-- rule is the one that leaves no node; node_ids are the nodes that got as far as that rule.
-- rule 0: there is no node at all. rule 12: no rule is in the way.
create or replace function mooring_internal.pending_reason_text(
  spec mooring.deployment,
  rule int,
  node_ids int[]
) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  -- planning for each array of nodes would take longer than the query
  set plan_cache_mode = force_generic_plan
as $$
declare
  setting mooring.setting;
  names text[];
  one boolean;
  candidates int[];
  few int[];
  these text;
  more text;
begin
  select s.* into setting
    from mooring.setting s;
  if coalesce(spec.policy, setting.default_policy) = 'none' then
    return 'policy none: nothing is placed automatically; '
      'reassign() it to a node, or choose another policy';
  elsif rule = 0 then
    return 'there is no node: start an agent';
  elsif rule = 12 then
    return case
      when mooring_internal.hold_reason() is not null then format(
        'hold after an outage: %s; it ends by itself, see fleet.hold_until',
        mooring_internal.hold_reason())
      else coalesce(
        (
          select f.reason || '; mend the policy, or choose another'
            from (select e.* from mooring.event e order by e.id desc limit 1000) f
           where f.kind = 'claim_failed'
             and f.detail ->> 'policy' = coalesce(spec.policy, setting.default_policy)
             and f.at > clock_timestamp() - interval '1 min'
           order by f.id desc
           limit 1),
        'the last round of placement failed: '
          || mooring_internal.round_error('place')
          || '; it is tried again, see doctor()',
        (
          select 'it is placed by the next round, and none has run in time: start a worker'
            from mooring_internal.round r
           where r.name = 'place'
             and r.done_at < clock_timestamp() - interval '1 min'
             and isfinite(r.done_at)),
        'it is placed by the next round')
    end;
  end if;
  -- a hundred at most: there may be thousands of nodes, for each of many signatures
  candidates := array(select u.id from unnest(node_ids) u (id) order by u.id limit 100);
  few := candidates[1:3];
  names := array(select n.name from mooring.node n where n.id = any (few) order by n.name);
  more := case
    when cardinality(node_ids) > 3 then format(' and %s more', cardinality(node_ids) - 3)
    else ''
  end;
  these := array_to_string(names, ', ') || more;
  one := cardinality(node_ids) = 1;
  return case rule
    when 1 then format(
      'there is no node %s, to which it is pinned: start its agent, or change pinned_node '
      '(there are %s)',
      spec.pinned_node, these)
    when 2 then format(
      'no node has the labels %s: %s looked at; label one (%s) or change the selector',
      spec.selector,
      case cardinality(node_ids)
        when 1 then '1 node'
        else cardinality(node_ids) || ' nodes'
      end,
      (
        select format('%s lacks %s', k.name, k.lacks)
          from (
            select n.name, mooring_internal.missing_labels(n.labels, spec.selector) as lacks
              from unnest(candidates) u (id)
              join mooring.node n on n.id = u.id) k
         order by (select count(*) from jsonb_object_keys(k.lacks)), k.name
         limit 1))
    when 3 then format(
      case
        when one then 'the one node that fits so far (%2$s) does not run %3$s'
        else 'none of the %1$s nodes that fit so far (%2$s) runs %3$s'
      end,
      cardinality(node_ids),
      these,
      case
        when spec.command is not null
          then 'custom commands: start an agent there with --allow-exec'
        when mooring_internal.code_variables(spec.env) <> '{}' then format(
          'what sets %s in its env, which decides what code runs: '
          'take that out, or start an agent there with --allow-exec',
          array_to_string(mooring_internal.code_variables(spec.env), ', '))
        else 'npm packages: start an agent there that has the driver npm'
      end)
    when 4 then format(
      'no node trusts %s@%s: %s; start the agent of one (%s) with a wider --trust',
      spec.package_name,
      spec.package_version,
      (
        select string_agg(
            case when p.nodes = 1 then '1 node trusts ' else p.nodes || ' nodes trust ' end
              || coalesce(p.trusts, 'nothing'),
            ', ')
          from (
            select n.trusts, count(*) as nodes
              from unnest(node_ids) u (id)
              join mooring.node n on n.id = u.id
             group by n.trusts
             order by 2 desc, 1
             limit 3) p),
      these)
    when 5 then format(
      'it needs a node with both agent_base_url and gateway_base_url, and '
        || case
          when one then 'the one node that fits so far does not have them'
          else 'none of the %1$s nodes that fit so far has them'
        end || ': give them to %2$s with upsert_node()',
      cardinality(node_ids), these)
    when 6 then format(
      'every node that may run it refused it, or it failed there (%s; see last_error): '
      'edit its spec, or add 1 to its generation, and they try again',
      these)
    when 7 then format(
      case
        when one then 'the one node that may run it is not live (%2$s): start its agent'
        else 'none of the %1$s nodes that may run it is live (%2$s): start their agents'
      end || ', or let other nodes run it',
      cardinality(node_ids), these)
    when 8 then format(
      'every live node that may run it is disabled (%s): set_node_enabled(%L, true)',
      these, names[1])
    when 9 then format(
      'every live node that may run it is draining or its agent is stopping (%s): '
      'undrain_node(%L), or add a node',
      these, names[1])
    when 10 then format(
      'every node that may run it has max_assignments already (%s): '
      'add a node, or raise the limit with upsert_node(%L, max_assignments => ...)',
      (
        select string_agg(n.name || ': ' || n.max_assignments, ', ' order by n.name) || more
          from mooring.node n
         where n.id = any (few)),
      names[1])
    when 11 then format(
      'every node that may run it has less than %s %% of its disk free (%s): '
      'free some there, or lower setting.disk_free_min_pct',
      setting.disk_free_min_pct,
      (
        select string_agg(
            format('%s: %s %%', h.node, round(h.disk_free_pct::numeric, 1)),
            ', ' order by h.node) || more
          from mooring.heartbeat h
         where h.node_id = any (few)))
  end;
end;
$$;
comment on function mooring_internal.pending_reason_text(mooring.deployment, int, int[]) is
  'Why pending work of a deployment is not placed, and the way out, in words.';
--! EndIncluded functions/explain/pending_reason_text.sql
--! Included functions/explain/pending_reasons.sql
-- One sentence per pending signature. The reason is the first predicate, in the order in which they
-- are asked, that leaves no node; the sentence adds the way out. without_node: the answer as if
-- that node were lost, for the work it would leave behind too.
create or replace function mooring_internal.pending_reasons(
  without_node int default null
) returns table (signature uuid, reason text)
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
begin atomic
  with waiting as materialized (
    select w.signature, w.deployment_id, w.refused_by
      from mooring_internal.pending_signatures(pending_reasons.without_node) w
  ),
  alike as materialized (
    select l.deployment_id, l.representative
      from mooring_internal.eligibility_groups(
        (select array_agg(distinct w.deployment_id) from waiting w)) l
  ),
  fit as materialized (
    select e.deployment_id, e.node_id,
        case
          when not e.pin_ok then 1
          when not e.selector_ok then 2
          when not e.driver_ok then 3
          when not e.trust_ok then 4
          when not e.urls_ok then 5
          else 6
        end as permitted_to,
        case
          when not e.live or e.node_id is not distinct from pending_reasons.without_node then 7
          when not e.enabled then 8
          when not e.not_draining then 9
          when not e.has_room then 10
          when not e.disk_ok then 11
          else 12
        end as fit_to
      from mooring_internal.eligibility(
        (select array_agg(distinct l.representative) from alike l)) e
  ),
  -- how far each node gets; the rule at which the last of them falls is the reason
  fallen as (
    select w.signature, w.deployment_id,
        case
          when f.node_id is null then 0
          when f.permitted_to < 6 then f.permitted_to
          when f.node_id = any (w.refused_by) then 6
          else f.fit_to
        end as rule,
        array_agg(f.node_id) as node_ids
      from waiting w
      join alike l on l.deployment_id = w.deployment_id
      left join fit f on f.deployment_id = l.representative
     group by 1, 2, 3
  )
  select distinct on (f.signature)
      f.signature,
      mooring_internal.pending_reason_text(d, f.rule, f.node_ids)
    from fallen f
    join mooring.deployment d on d.id = f.deployment_id
   order by f.signature, f.rule desc;
end;
comment on function mooring_internal.pending_reasons(int) is
  'For each pending signature: why it is not placed, and the way out. '
  'without_node: as if that node were lost.';
--! EndIncluded functions/explain/pending_reasons.sql
--! Included functions/explain/plan_placement.sql
-- plan_placement: what claim() would do if a node were gone and its work released. It uses the same
-- classes, queue, windows and choice (placeable_classes, place_class) on the present loads.
-- It locks and writes nothing, so it works in a read-only transaction and on a standby.
-- Other pending work takes part, as it would in a claim; only what the node leaves behind is
-- returned.
create or replace function mooring.plan_placement(without_node int) returns table (
  assignment_id bigint,
  deployment_id bigint,
  to_node int,
  reason text
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  lost_ids bigint[];
  lost_signatures uuid[];
  nodes mooring.node_state[];
  classes mooring_internal.placement_class[];
  class_of jsonb;
  class mooring_internal.placement_class;
  class_of_work record;
  queue bigint[];
  queue_signatures uuid[];
  tail record;
  chosen int[];
  given int[] := '{}';
  placed_deployments bigint[];
  placed_nodes int[];
  step record;
  why text;
  promised bigint[];
  ids bigint[] := '{}';
  owners int[] := '{}';
  rules text[] := '{}';
  failures jsonb := '{}';
begin
  select s.* into setting
    from mooring.setting s;
  -- what is being moved away goes to the node it was promised, see place_moves()
  select array_agg(l.id), array_agg(l.move_to), array_agg('moved: ' || l.move_reason),
      array_agg(l.deployment_id)
    into promised, owners, rules, placed_deployments
    from mooring_internal.work_of_lost_node(plan_placement.without_node) l
    join mooring_internal.eligibility(array(
      select b.deployment_id
        from mooring_internal.work_of_lost_node(plan_placement.without_node) b
       where b.move_to is not null)) e
      on e.deployment_id = l.deployment_id and e.node_id = l.move_to
   where l.move_to <> all (l.refused_by)
     and e.permitted
     and e.live
     and e.enabled
     and e.not_draining
     and e.disk_ok;
  promised := coalesce(promised, '{}');
  ids := promised;
  owners := coalesce(owners, '{}');
  placed_deployments := coalesce(placed_deployments, '{}');
  placed_nodes := owners;
  rules := coalesce(rules, '{}');
  select array_agg(l.id), array_agg(l.signature) into lost_ids, lost_signatures
    from mooring_internal.work_of_lost_node(plan_placement.without_node) l
   where l.id <> all (promised);
  select array_agg(p) into classes
    from mooring_internal.placeable_classes(plan_placement.without_node) p;
  if classes is not null then
    select jsonb_object_agg(s.signature, c.nr) into class_of
      from unnest(classes) with ordinality c (policy, signatures, node_ids, nr)
     cross join lateral unnest(c.signatures) s (signature);
    select array_agg(s) into nodes
      from mooring_internal.node_states() s
     where s.id <> plan_placement.without_node;
    select '-infinity'::timestamptz as updated_at, '-infinity'::timestamptz as created_at,
        0::bigint as id
      into tail;
  end if;
  while classes is not null loop
    select
        array_agg(q.id order by q.updated_at, q.created_at, q.id),
        array_agg(q.signature order by q.updated_at, q.created_at, q.id)
      into queue, queue_signatures
      from (
        select w.id, w.signature, w.updated_at, w.created_at
          from unnest(classes) c
         cross join lateral unnest(c.signatures) s (signature)
         cross join lateral (
           (
             select a.id, a.signature, a.updated_at, a.created_at
               from mooring.assignment a
              where a.node_id is null
                and a.wanted = 'run'
                and a.signature = s.signature
                and (a.move_to is null or a.move_to = plan_placement.without_node)
                and (a.updated_at, a.created_at, a.id)
                  > (tail.updated_at, tail.created_at, tail.id)
              order by a.updated_at, a.created_at, a.id
              limit setting.claim_window)
           union all
           select a.id, l.signature, a.updated_at, a.created_at
             from unnest(lost_ids, lost_signatures) l (id, signature)
             join mooring.assignment a on a.id = l.id
            where l.signature = s.signature
              and (a.updated_at, a.created_at, a.id)
                > (tail.updated_at, tail.created_at, tail.id)) w
         order by w.updated_at, w.created_at, w.id
         limit setting.claim_window) q;
    exit when queue is null;
    select a.updated_at, a.created_at, a.id into tail
      from mooring.assignment a
     where a.id = queue[cardinality(queue)];
    for class_of_work in
      select
          (class_of ->> q.signature::text)::int as nr,
          bool_or(d.replicas > 1) as replicated,
          array_agg(a.id order by q.nr) as ids,
          array_agg(a.deployment_id order by q.nr) as deployments,
          array_agg(coalesce(a.node_id, a.last_node_id) order by q.nr) as last_nodes
        from unnest(queue, queue_signatures) with ordinality q (id, signature, nr)
        join mooring.assignment a on a.id = q.id
        join mooring.deployment d on d.id = a.deployment_id and d.enabled
       where a.deployment_id <> all (array(
         select w.deployment_id from mooring_internal.waiting_for_namesakes() w))
       group by 1
       order by 1
    loop
      class := classes[class_of_work.nr];
      begin
        step := mooring_internal.place_class(
          nodes,
          given,
          class,
          class_of_work.ids,
          class_of_work.deployments,
          class_of_work.last_nodes,
          class_of_work.replicated,
          placed_deployments,
          placed_nodes);
        nodes := step.nodes_now;
        chosen := step.chosen;
        why := step.rule;
        given := chosen;
      exception when others then
        failures := failures || jsonb_build_object(class.policy, sqlerrm);
        chosen := '{}';
      end;
      if cardinality(chosen) < cardinality(class_of_work.ids) then
        classes[class_of_work.nr] := (class.policy, '{}', '{}')::mooring_internal.placement_class;
      end if;
      ids := ids || class_of_work.ids[1:cardinality(chosen)];
      owners := owners || chosen;
      if class_of_work.replicated then
        placed_deployments := placed_deployments
          || class_of_work.deployments[1:cardinality(chosen)];
        placed_nodes := placed_nodes || chosen;
      end if;
      rules := rules || array_fill(why, array[cardinality(chosen)]);
    end loop;
    exit when cardinality(queue) < setting.claim_window;
  end loop;
  return query
    select l.id, l.deployment_id, p.node_id, p.rule
      from mooring_internal.work_of_lost_node(plan_placement.without_node) l
      join unnest(ids, owners, rules) p (id, node_id, rule) on p.id = l.id;
  return query
    select a.id, a.deployment_id, c.node_id, 'its successor is there already'
      from mooring_internal.handover_rows() c
      join mooring.assignment a on a.id = c.replica and a.node_id = plan_placement.without_node
     where c.handover = 'arriving' and c.wanted = 'run';
  if cardinality(lost_ids) > 0 and not lost_ids <@ ids then
    return query
      select l.id, l.deployment_id, null::int,
          case
            when failures ? c.policy then
              format('policy %s failed: %s', c.policy, failures ->> c.policy)
            when class_of ? l.signature::text then
              'the nodes that may run it would be full: add a node or raise max_assignments'
            else w.reason
          end
        from mooring_internal.work_of_lost_node(plan_placement.without_node) l
        left join mooring_internal.pending_reasons(plan_placement.without_node) w
          on w.signature = l.signature
       cross join lateral (
         select classes[(class_of ->> l.signature::text)::int].policy as policy) c
       where l.id <> all (ids);
  end if;
end;
$$;
comment on function mooring.plan_placement(int) is
  'Where the work of a node would go if the node were gone. to_node is null where it would go '
  'nowhere, and reason says why. Locks and writes nothing.';
--! EndIncluded functions/explain/plan_placement.sql
--! Included functions/explain/simulate_node_loss.sql
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
--! EndIncluded functions/explain/simulate_node_loss.sql
--! Included functions/explain/simulate_drain.sql
-- simulate_drain: where drain_node() would send what a node runs. It uses the targets, the budget
-- and the choice of advance_drains(), in steps of max_moves. Each step counts as arrived, and
-- running, before the next.
-- What no other node can take stays: to_node is null, and reason says why. Daemons and what is
-- being moved already are left out.
create or replace function mooring.simulate_drain(name text, max_moves int default null)
  returns table (
    assignment_id bigint,
    deployment_id bigint,
    from_node text,
    to_node text,
    reason text
  )
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  source mooring.node := mooring_internal.node_named(simulate_drain.name);
  step int;
  budget int;
  nodes mooring.node_state[] := array(select s from mooring_internal.node_states() s);
  classes mooring_internal.placement_class[] := '{}';
  class record;
  -- what is left, with the number of its class, and what of it has other replicas
  waiting bigint[] := '{}';
  class_of int[] := '{}';
  replicas bigint[];
  -- what steps before have moved, and what this one moves
  arrived bigint[] := '{}';
  moving bigint[];
  placed_deployments bigint[] := '{}';
  placed_nodes int[] := '{}';
  batch bigint[];
  deployments bigint[];
  chosen int[];
  placed record;
begin
  if simulate_drain.max_moves < 1 then
    raise exception using
      errcode = 'MR007',
      message = format('max_moves is %s', simulate_drain.max_moves),
      hint = 'Leave it out for setting.drain_max_moves, or give 1 or more.';
  end if;
  step := coalesce(
    simulate_drain.max_moves,
    source.drain_max_moves,
    (select s.drain_max_moves from mooring.setting s));
  for class in
    select t.*
      from mooring_internal.drain_targets(source.id) t
     where t.node_ids <> '{}'
  loop
    classes := classes
      || (class.policy, null, class.node_ids)::mooring_internal.placement_class;
    waiting := waiting || class.ids;
    class_of := class_of || array_fill(cardinality(classes), array[cardinality(class.ids)]);
  end loop;
  replicas := array(
    select a.id
      from mooring.assignment a
      join mooring.deployment d on d.id = a.deployment_id
     where a.id = any (waiting) and d.replicas > 1);
  loop
    budget := step;
    moving := '{}';
    -- full nodes are no targets, and the choosiest class goes first, as in drain_targets()
    for class in
      select c.policy, o.node_ids, w.ids
        from (
          select u.nr, array_agg(u.id order by u.id) as ids
            from unnest(waiting, class_of) u (id, nr)
           group by u.nr) w
       cross join lateral (select (classes[w.nr]).policy, (classes[w.nr]).node_ids) c
       cross join lateral (
         select array(
             select s.id
               from unnest(nodes) s
              where s.id = any (c.node_ids)
                and s.assigned < coalesce(s.max_assignments, 2147483647)
              order by s.id) as node_ids) o
       where o.node_ids <> '{}'
       order by cardinality(o.node_ids), w.ids[1]
    loop
      exit when budget = 0;
      batch := class.ids;
      if batch && replicas then
        batch := mooring_internal.within_budget(batch, arrived, moving);
      end if;
      batch := array(select u.id from unnest(batch) u (id) order by u.id limit budget);
      continue when batch = '{}';
      deployments := array(
        select a.deployment_id
          from unnest(batch) with ordinality u (id, nr)
          join mooring.assignment a on a.id = u.id
         order by u.nr);
      placed := mooring_internal.place_class(
        nodes,
        '{}',
        (class.policy, null, class.node_ids)::mooring_internal.placement_class,
        batch,
        deployments,
        '{}',
        true,
        placed_deployments,
        placed_nodes);
      chosen := placed.chosen;
      continue when chosen = '{}';
      batch := batch[1:cardinality(chosen)];
      return query
        select u.id, u.deployment_id, source.name, n.name, placed.rule
          from unnest(batch, deployments[1:cardinality(chosen)], chosen)
            u (id, deployment_id, node_id)
          join mooring.node n on n.id = u.node_id;
      nodes := mooring_internal.with_load(nodes, chosen);
      placed_deployments := placed_deployments || deployments[1:cardinality(chosen)];
      placed_nodes := placed_nodes || chosen;
      moving := moving || batch;
      budget := budget - cardinality(chosen);
    end loop;
    exit when moving = '{}';
    arrived := arrived || moving;
    select coalesce(array_agg(u.id order by u.o), '{}'),
        coalesce(array_agg(u.nr order by u.o), '{}')
      into waiting, class_of
      from unnest(waiting, class_of) with ordinality u (id, nr, o)
     where u.id <> all (moving);
  end loop;
  return query
    select a.id, a.deployment_id, source.name, null::text,
        case
          when a.id = any (mooring_internal.within_budget(waiting, arrived)) then
            'the nodes that may run it would be full: add a node or raise max_assignments'
          else 'too few other replicas of it run: it stays until they do'
        end
      from mooring.assignment a
     where a.id = any (waiting);
  return query
    select a.id, a.deployment_id, source.name, null::text, b.why
      from mooring_internal.drain_obstacles(source.id) b
     cross join lateral unnest(b.ids) u (id)
      join mooring.assignment a on a.id = u.id;
end;
$$;
comment on function mooring.simulate_drain(text, int) is
  'Where drain_node() would send each assignment of a node. to_node is null where it would stay, '
  'and reason says why. Locks and writes nothing.';
--! EndIncluded functions/explain/simulate_drain.sql
--! Included functions/explain/check_insert.sql
-- Whether the table would take this deployment. The constraints in the catalog judge the row, with
-- the error that an INSERT would raise, in the order of an INSERT. Nothing is inserted and rolled
-- back: that would take locks and ids, wait for others, and fail on a standby.
-- The row comes back with its defaults. Its id is null unless it is given.
create or replace function mooring_internal.check_insert(deployment jsonb)
  returns mooring.deployment
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  defaults jsonb;
  filled mooring.deployment;
  law record;
  broken boolean;
  key text;
begin
  execute (
    select format(
          'select jsonb_build_object(%s)',
          string_agg(format('%L, %s', a.attname, pg_get_expr(d.adbin, d.adrelid)), ', '))
      from pg_attrdef d
      join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
     where d.adrelid = 'mooring.deployment'::regclass and a.attgenerated = '')
    into defaults;
  select d.* into filled
    from jsonb_populate_record(null::mooring.deployment, defaults || check_insert.deployment) d;
  for law in
    select a.attname as name
      from pg_attribute a
     where a.attrelid = 'mooring.deployment'::regclass
       and a.attnum > 0
       and a.attnotnull
       and a.attgenerated = ''
       and not a.attisdropped
       and (a.attidentity = '' or check_insert.deployment ? a.attname)
     order by a.attnum
  loop
    execute format('select ($1).%I is null', law.name) into broken using filled;
    if broken then
      raise exception using
        errcode = '23502',
        message = format(
          'null value in column "%s" of relation "deployment" violates not-null constraint',
          law.name),
        schema = 'mooring',
        table = 'deployment',
        column = law.name,
        hint = format('Leave %s out for its default.', law.name);
    end if;
  end loop;
  for law in
    select c.conname as name, pg_get_expr(c.conbin, c.conrelid) as condition
      from pg_constraint c
     where c.conrelid = 'mooring.deployment'::regclass and c.contype = 'c'
     order by c.conname collate "C"
  loop
    execute format('select (%s) is false from (select ($1).*) d', law.condition)
      into broken
      using filled;
    if broken then
      raise exception using
        errcode = '23514',
        message = format(
          'new row for relation "deployment" violates check constraint "%s"', law.name),
        schema = 'mooring',
        table = 'deployment',
        constraint = law.name;
    end if;
  end loop;
  for law in
    select c.relname as name,
        string_agg(format('d.%1$I = ($1).%1$I', a.attname), ' and ') as same,
        string_agg(a.attname, ', ') as columns,
        string_agg(format('($1).%I', a.attname), ', ') as values
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = 'mooring.deployment'::regclass and i.indisunique
     group by c.relname, i.indexrelid
     order by i.indexrelid
  loop
    execute format(
      'select concat_ws('', '', %s) from mooring.deployment d where %s', law.values, law.same)
      into key
      using filled;
    if key is not null then
      raise exception using
        errcode = '23505',
        message = format('duplicate key value violates unique constraint "%s"', law.name),
        detail = format('Key (%s)=(%s) already exists.', law.columns, key),
        schema = 'mooring',
        table = 'deployment',
        constraint = law.name;
    end if;
  end loop;
  if filled.policy is not null
    and not exists (select from mooring.policy p where p.name = filled.policy)
  then
    raise exception using
      errcode = '23503',
      message = 'insert or update on table "deployment" violates foreign key constraint '
        '"deployment_policy_fkey"',
      detail = format('Key (policy)=(%s) is not present in table "policy".', filled.policy),
      hint = format(
        'There are %s.',
        (select string_agg(p.name, ', ' order by p.name) from mooring.policy p)),
      schema = 'mooring',
      table = 'deployment',
      constraint = 'deployment_policy_fkey';
  end if;
  return filled;
end;
$$;
comment on function mooring_internal.check_insert(jsonb) is
  'The row that an INSERT of these columns would make, or the error that it would raise.';
--! EndIncluded functions/explain/check_insert.sql
--! Included functions/explain/simulate_insert.sql
-- simulate_insert: where a deployment would go if it were inserted now. It is given as an object of
-- its columns, for example {"package_name": "web", "replicas": 3}. The result has one row for each
-- replica, and for a daemon one for each node. The relation and the choice are those of claim(), on
-- the present loads. Other pending work is not counted. What the table would not take is an error,
-- the same as that of the INSERT: check_insert().
create or replace function mooring.simulate_insert(deployment jsonb)
  returns table (ordinal int, to_node text, reason text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  filled jsonb;
  unknown text;
  spec mooring.deployment;
  policy mooring.policy;
  eligible int[];
  chosen int[] := '{}';
  obstacle text;
begin
  if jsonb_typeof(simulate_insert.deployment) is distinct from 'object' then
    raise exception using
      errcode = 'MR007',
      message = 'a deployment is given as one object of its columns',
      hint = 'For example {"package_name": "http-server", "replicas": 3}.';
  end if;
  select string_agg(k.key, ', ' order by k.key) into unknown
    from jsonb_object_keys(simulate_insert.deployment) k (key)
   where k.key not in (
     select a.attname
       from pg_attribute a
      where a.attrelid = 'mooring.deployment'::regclass
        and a.attnum > 0
        and a.attgenerated = ''
        and not a.attisdropped);
  if unknown is not null then
    raise exception using
      errcode = 'MR007',
      message = format('a deployment has no %s', unknown),
      hint = 'See \d mooring.deployment for its columns.';
  end if;
  spec := mooring_internal.check_insert(simulate_insert.deployment);
  filled := to_jsonb(spec);
  select p.* into policy
    from mooring.policy p
   where p.name = coalesce(spec.policy, (select s.default_policy from mooring.setting s));
  if not spec.enabled then
    return query
      select g.ordinal, null::text, 'the deployment is disabled'
        from generate_series(0, spec.replicas - 1) g (ordinal);
    return;
  elsif spec.type = 'daemon' then
    return query
      select null::int, n.name, 'a daemon runs on every permitted node'
        from mooring_internal.eligibility('{}', filled) e
        join mooring.node n on n.id = e.node_id
       where e.permitted
       order by n.name;
    return;
  end if;
  eligible := array(
    select e.node_id
      from mooring_internal.eligibility('{}', filled) e
     where e.eligible
     order by e.node_id);
  if policy.kind = 'load' and eligible <> '{}' then
    chosen := mooring_internal.choose_places(
      array(select s from mooring_internal.node_states() s),
      eligible,
      policy.name,
      array_fill(null::bigint, array[spec.replicas]),
      array_fill(null::bigint, array[spec.replicas]),
      '{}',
      spec.replicas > 1);
  end if;
  obstacle := case
    when policy.kind = 'none' then
      'policy none: nothing is placed automatically; '
      'reassign() it to a node, or choose another policy'
    when policy.kind = 'affinity' and eligible <> '{}' then format(
      'policy %s decides by ids that are given at the insert: one of %s nodes',
      policy.name, cardinality(eligible))
    when eligible <> '{}' then
      'the nodes that may run it would be full: add a node or raise max_assignments'
    else coalesce(
      'no node can take it: ' || (
        select string_agg(
            format('%s (%s)', w.reason, w.nodes), ', ' order by w.nodes desc, w.reason)
          from (
            select mooring_internal.reason_not_eligible(e) as reason, count(*) as nodes
              from mooring_internal.eligibility('{}', filled) e
             group by 1) w),
      'there is no node: start an agent') end;
  return query
    select g.ordinal, n.name,
        case when n.id is null then obstacle else 'cheapest by ' || policy.name end
      from generate_series(0, spec.replicas - 1) g (ordinal)
      left join mooring.node n on n.id = chosen[g.ordinal + 1]
     order by g.ordinal;
end;
$$;
comment on function mooring.simulate_insert(jsonb) is
  'Where a deployment would run if it were inserted now, given as an object of its columns. '
  'to_node is null where it would run nowhere, and reason says why. Locks and writes nothing.';
--! EndIncluded functions/explain/simulate_insert.sql
--! Included functions/explain/explain.sql
-- explain: one row per node with every predicate, the cost and a verdict. It asks the same relation
-- (eligibility) and the same policy as claim(), so what it says is what claim() does.
create or replace function mooring.explain(deployment bigint) returns table (
  node text,
  verdict text,
  permitted boolean,
  eligible boolean,
  cost float8,
  assigned int,
  here int,
  pin_ok boolean,
  selector_ok boolean,
  driver_ok boolean,
  trust_ok boolean,
  urls_ok boolean,
  live boolean,
  enabled boolean,
  not_draining boolean,
  has_room boolean,
  disk_ok boolean
)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  spec mooring.deployment;
  policy mooring.policy;
  -- the assignment that claim() would place next; an owned one when none is pending
  waiting mooring.assignment;
  nodes mooring.node_state[];
  known text;
begin
  select d.* into spec
    from mooring.deployment d
   where d.id = explain.deployment;
  if spec.id is null then
    select string_agg(k.id::text, ', ') into known
      from (
        select d.id
          from mooring.deployment d
         order by abs(d.id - explain.deployment)
         limit 3) k;
    raise exception using
      errcode = 'MR003',
      message = format(
        'there is no deployment %s', coalesce(explain.deployment::text, 'null')),
      hint = coalesce(
        'The nearest ids are ' || known || '.',
        'There is no deployment at all: insert one.');
  end if;
  select a.* into waiting
    from mooring.assignment a
   where a.deployment_id = spec.id and a.ordinal is not null
   order by a.node_id is not null, a.updated_at, a.created_at, a.id
   limit 1;
  nodes := array(select s from mooring_internal.node_states() s);
  policy := mooring_internal.policy_in_force(
    nodes,
    array(
      select e.node_id
        from mooring_internal.eligibility(array[spec.id]) e
       where e.eligible),
    coalesce(spec.policy, (select s.default_policy from mooring.setting s)),
    waiting.id);
  return query execute format($query$
    with compared as (
      select s as state, e as fit, c.cost, o.here, o.arrives, o.refused,
          coalesce(
            %1$L = 'load'
              and s.id = $4.last_node_id
              and $4.node_id is null
              and c.cost <= min(c.cost) filter (where e.eligible and not o.refused) over ()
                + (select g.sticky_slack from mooring.setting g),
            false) as returns_to_last_node
        from mooring_internal.eligibility(array[$1]) e
        join unnest($3) s on s.id = e.node_id
       cross join lateral (select (%3$s) * 100 / s.weight as cost) c
       cross join lateral (
         select
             (count(*) filter (
               where a.node_id = s.id
                 and a.handover is distinct from 'leaving'))::int as here,
             coalesce(
               bool_and(a.handover = 'arriving') filter (
                 where a.node_id = s.id
                   and a.handover is distinct from 'leaving'),
               false) as arrives,
             coalesce(bool_or(s.id = any (a.refused_by)), false) as refused
           from mooring.assignment a
          where a.deployment_id = $1) o
    )
    select (c.state).name,
        case
          when c.here > 0 and (c.fit).permitted then
            case when c.arrives then 'starts here, as a successor' else 'runs here' end
              || coalesce(
                '; nothing new: ' || mooring_internal.reason_not_eligible(c.fit)
                  || ': ' || mooring_internal.remedy_if_not_eligible(
                    c.fit, n, h, $2, g.disk_free_min_pct),
                '')
          when not (c.fit).eligible then
            'no: ' || mooring_internal.reason_not_eligible(c.fit)
              || ': ' || mooring_internal.remedy_if_not_eligible(
                c.fit, n, h, $2, g.disk_free_min_pct)
          when c.refused then
            'no: its agent refused it, or it failed there: see last_error in placement; '
            'edit the spec, or add 1 to generation, and the agent tries again'
          when not $2.enabled then
            format(
              'no: the deployment is disabled: '
              'update mooring.deployment set enabled = true where id = %%s',
              $1)
          when %1$L = 'none' then
            'no: policy none places nothing by itself: '
            'reassign() it here, or choose another policy'
          when first_value((c.state).id) over w = (c.state).id then
            'next: '
              || case when c.returns_to_last_node then 'back on its last node, ' else '' end
              || 'cheapest by ' || %2$L
              || case when c.returns_to_last_node then ' or near it' else '' end
          else 'could run here'
        end,
        (c.fit).permitted, (c.fit).eligible, c.cost, (c.state).assigned, c.here,
        (c.fit).pin_ok, (c.fit).selector_ok, (c.fit).driver_ok, (c.fit).trust_ok, (c.fit).urls_ok,
        (c.fit).live, (c.fit).enabled, (c.fit).not_draining, (c.fit).has_room, (c.fit).disk_ok
      from compared c
      join mooring.node n on n.id = (c.state).id
      left join mooring.heartbeat h on h.node_id = n.id
     cross join mooring.setting g
    window w as (
      order by (c.fit).eligible desc, c.refused, c.returns_to_last_node desc, c.cost nulls last,
        ((c.state).assigned + 1) * 100 / (c.state).weight, (c.state).id)
     order by (c.fit).eligible desc, c.refused, c.returns_to_last_node desc, c.cost nulls last,
       ((c.state).assigned + 1) * 100 / (c.state).weight, (c.state).id
    $query$,
    policy.kind,
    policy.name,
    case policy.kind
      when 'load' then policy.cost_function || '(s, 1)'
      when 'affinity' then policy.cost_function || '(s, $4)'
      else 'null::float8'
    end)
    using spec.id, spec, nodes, waiting;
end;
$$;
comment on function mooring.explain(bigint) is
  'Why a deployment runs where it runs, or nowhere: one row per node, cheapest eligible node '
  'first. Each row has the predicates, the cost of one more instance under the policy, and a '
  'verdict.';
--! EndIncluded functions/explain/explain.sql

-- logs: slices of logs on their way
--! Included functions/logs/log_requests_of.sql
-- log_requests_of: the open requests for logs of a node, oldest first. The agent reads them when it
-- receives the word 'log' on its channel, not with the beat: a fleet without log requests pays
-- nothing. A request that was returned counts as known: its hint is not repeated while the agent
-- waits for new lines.
-- locks: log_request (skip locked: noting that the agent knows a request is optional, and a request
--        that is being read delays no other)
create or replace function mooring.log_requests_of(node text, session uuid) returns table (
  request uuid,
  assignment_id bigint,
  from_byte bigint,
  tail_lines int,
  after text,
  max_bytes int,
  wait_ms int
)
  language plpgsql volatile security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  mine int := mooring_internal.node_of_session(log_requests_of.node, log_requests_of.session);
begin
  perform mooring_internal.limit_idle();
  update mooring_internal.log_request r
     set hinted_at = r.requested_at + r.wait
   where r.id = any (array(
     select l.id
       from mooring_internal.log_request l
      where l.node_id = mine
        and l.answered_at is null
        and l.hinted_at < l.requested_at + l.wait
        for update skip locked));
  return query
    select r.id, r.assignment_id, r.from_byte, r.tail_lines, r.after, r.max_bytes,
        mooring_internal.milliseconds(
          greatest(r.requested_at + r.wait - clock_timestamp(), interval '0'))
      from mooring_internal.log_request r
     where r.node_id = mine
       and r.answered_at is null
       and r.requested_at + r.wait > clock_timestamp() - interval '1 min'
     order by r.requested_at
     limit 200;
end;
$$;
comment on function mooring.log_requests_of(text, uuid) is
  'The slices of logs that are requested from a node and not answered, 200 at most. '
  'wait_ms: milliseconds that are left to wait for new lines.';
--! EndIncluded functions/logs/log_requests_of.sql
--! Included functions/logs/hint_log_request.sql
-- Sends the word 'log' on the node's channel. The word differs from other hints, so an agent that
-- receives it does not read its assignments again.
create or replace function mooring_internal.hint_log_request(node_id int) returns void
  language sql volatile
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select pg_notify(mooring_internal.node_channel(hint_log_request.node_id), 'log')
   where mooring_internal.may_notify();
end;
comment on function mooring_internal.hint_log_request(int) is
  'Notifies the agent of a node to read log_requests_of().';
--! EndIncluded functions/logs/hint_log_request.sql
--! Included functions/logs/answer_log.sql
-- answer_log: stores the slice of a log that was requested from an agent, or why there is none.
-- Returns false when the request is gone, is answered already, or belongs to another node.
-- locks: log_request
create or replace function mooring.answer_log(
  node text,
  session uuid,
  request uuid,
  start_byte bigint,
  data bytea,
  next text,
  more boolean,
  size bigint,
  error text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  mine int := mooring_internal.node_of_session(answer_log.node, answer_log.session);
begin
  if octet_length(answer_log.data) > 131072 then
    raise exception using
      errcode = 'MR007',
      message = format('a slice of %s bytes', octet_length(answer_log.data)),
      hint = 'A slice has at most 128 KiB, and at most max_bytes of its request.';
  elsif (answer_log.data is null) = (answer_log.error is null) then
    raise exception using
      errcode = 'MR007',
      message = 'an answer is a slice or an error',
      hint = 'Give one of data and error, and null for the other.';
  end if;
  perform mooring_internal.limit_idle();
  perform mooring_internal.forget_log_requests();
  update mooring_internal.log_request r
     set answered_at = clock_timestamp(),
         start_byte = answer_log.start_byte,
         data = answer_log.data,
         next = answer_log.next,
         more = answer_log.more,
         size = answer_log.size,
         error = left(answer_log.error, 2000)
   where r.id = answer_log.request and r.node_id = mine and r.answered_at is null;
  return found;
end;
$$;
comment on function mooring.answer_log(
  text, uuid, uuid, bigint, bytea, text, boolean, bigint, text) is
  'Answers a request for a log with a slice or an error. false: the request is not open any more.';
--! EndIncluded functions/logs/answer_log.sql
--! Included functions/logs/raise_no_answer.sql
create or replace function mooring_internal.raise_no_answer(
  node_id int,
  assignment bigint
) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- a record, because the view is created after this function
  node record;
begin
  select s.* into node
    from mooring.node_status s
   where s.node_id = raise_no_answer.node_id;
  raise exception using
    errcode = 'MR006',
    message = format(
      'node %s does not answer, and the log is there: it is %s, %s',
      node.node,
      node.health,
      coalesce(
        'its last beat was ' || round(extract(epoch from node.beat_age), 1) || ' s ago',
        'it has never beaten')),
    hint = format(
      'Look at its agent, and at mooring status. mooring history %1$s lists where else it ran: '
      'then mooring logs %1$s --node NAME, or request_log(%1$s, node => ...).',
      assignment);
end;
$$;
comment on function mooring_internal.raise_no_answer(int, bigint) is
  'Raises MR006: the agent of the node does not answer a request for a log.';
--! EndIncluded functions/logs/raise_no_answer.sql
--! Included functions/logs/forget_log_requests.sql
-- Deletes expired requests: an answered one a minute after its answer, an open one a minute after
-- its time to wait. Every request, every answer and the prune round call it.
-- locks: log_request (skip locked)
create or replace function mooring_internal.forget_log_requests() returns void
  language sql volatile
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.log_request r
   where r.id in (
     select o.id
       from mooring_internal.log_request o
      where coalesce(o.answered_at, o.requested_at + o.wait) < clock_timestamp() - interval '1 min'
        for update skip locked);
end;
comment on function mooring_internal.forget_log_requests() is
  'Deletes log requests and answers that expired more than a minute ago.';
--! EndIncluded functions/logs/forget_log_requests.sql
--! Included functions/logs/request_log.sql
-- request_log: requests a slice of an assignment's log from the agent that has it. Returns the id
-- under which read_log() finds the answer, once this transaction is committed. The agent is that of
-- the node given; else of the owner; else of the last owner. Offsets count all that is kept,
-- rotated parts included. A slice begins at one of three places:
--   from_byte   0 is the oldest byte that is kept; a negative number counts from the end
--   tail_lines  so many lines before the end; 200 when none of the three is given
--   after       the `next` of an earlier answer; it holds although the log was rotated since
-- wait: how long the agent waits for new lines when there are none.
-- Limits: 128 KiB a slice, 150 open requests a login and 200 a node, so that no login fills a node
-- alone. They are counted without a lock, so concurrent sessions may exceed them by their number.
-- locks: none (deletes expired requests, skip locked)
create or replace function mooring.request_log(
  assignment bigint,
  from_byte bigint default null,
  tail_lines int default null,
  after text default null,
  max_bytes int default 131072,
  node text default null,
  wait interval default '0'
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  holder mooring.node;
  of_node int;
  of_login int;
  request uuid;
begin
  if num_nonnulls(request_log.from_byte, request_log.tail_lines, request_log.after) > 1 then
    raise exception using
      errcode = 'MR007',
      message = 'a slice begins at from_byte, at tail_lines before the end, or at after: give one',
      hint = 'Leave all out for the last 200 lines.';
  elsif request_log.max_bytes is null or request_log.max_bytes not between 1 and 131072 then
    raise exception using
      errcode = 'MR007',
      message = format('max_bytes is %s', coalesce(request_log.max_bytes::text, 'null')),
      hint = 'A slice has 1 to 131072 bytes (128 KiB); pass its next as after to continue.';
  elsif request_log.tail_lines not between 0 and 1000000 then
    raise exception using
      errcode = 'MR007',
      message = format('tail_lines is %s', request_log.tail_lines),
      hint = 'Give 0 to 1000000; from_byte => 0 is the oldest byte that is kept.';
  elsif request_log.wait is null
    or not request_log.wait between interval '0' and interval '30 s'
  then
    raise exception using
      errcode = 'MR007',
      message = format('wait is %s', coalesce(request_log.wait::text, 'null')),
      hint = 'An agent waits at most 30 s; then request the log again.';
  elsif request_log.after !~ '^\d{1,2}:\d{1,15}:\d{1,4}:[0-9a-f]{16}$' then
    raise exception using
      errcode = 'MR007',
      message = format('%L is no place in a log', left(request_log.after, 100)),
      hint = 'after takes the next of an earlier answer, unchanged.';
  end if;
  if request_log.node is not null then
    holder := mooring_internal.node_named(request_log.node);
  else
    select n.* into holder
      from mooring.assignment a
      join mooring.node n on n.id = a.node_id
     where a.id = request_log.assignment;
    if holder.id is null then
      select n.* into holder
        from mooring.ownership o
        join mooring.node n on n.id = o.node_id
       where o.assignment_id = request_log.assignment
       order by o.epoch desc
       limit 1;
    end if;
  end if;
  if holder.id is null
    and exists (select from mooring.assignment a where a.id = request_log.assignment)
  then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s has not run anywhere yet', request_log.assignment),
      hint = format(
        'mooring.explain(%s) says why.',
        (select a.deployment_id from mooring.assignment a where a.id = request_log.assignment));
  elsif holder.id is null or request_log.assignment is null then
    perform mooring_internal.raise_no_such_assignment(request_log.assignment);
  end if;
  if not exists (
    select from mooring.heartbeat h
     where h.node_id = holder.id and mooring_internal.node_is_live(h))
  then
    perform mooring_internal.raise_no_answer(holder.id, request_log.assignment);
  end if;
  perform mooring_internal.forget_log_requests();
  select
      count(*) filter (where r.node_id = holder.id),
      count(*) filter (where r.requested_by = session_user)
    into of_node, of_login
    from mooring_internal.log_request r;
  if of_node >= 200 or of_login >= 150 then
    raise exception using
      errcode = 'MR007',
      message = case
        when of_node >= 200
          then format('%s log requests are open at node %s', of_node, holder.name)
        else format('%s log requests of %s are open', of_login, session_user) end,
      hint = 'Read the answers: read_log() closes a request, and so does a minute without it. '
        'Each mooring logs -f holds one request for every log it follows.';
  end if;
  insert into mooring_internal.log_request
    (assignment_id, node_id, from_byte, tail_lines, after, max_bytes, wait)
  values (
    request_log.assignment,
    holder.id,
    request_log.from_byte,
    case
      when num_nonnulls(request_log.from_byte, request_log.tail_lines, request_log.after) = 0
        then 200
      else request_log.tail_lines
    end,
    request_log.after,
    request_log.max_bytes,
    request_log.wait)
  returning id into request;
  perform mooring_internal.hint_log_request(holder.id);
  return request;
end;
$$;
comment on function mooring.request_log(bigint, bigint, int, text, int, text, interval) is
  'Requests a slice of a log, 128 KiB at most, from the agent that has it. '
  'Commit, then read_log() returns it a moment later. In psql: call mooring.show_log(7).';
--! EndIncluded functions/logs/request_log.sql
--! Included functions/logs/read_log.sql
-- read_log: returns the answer to request_log() once, because reading deletes it. No row means that
-- the answer has not come yet: call again. Each call repeats the hint to the agent when the last
-- one is a second old, so a lost notification costs one second. Ten seconds after the time to wait
-- has passed without an answer, it raises MR006.
-- locks: log_request
create or replace function mooring.read_log(request uuid) returns table (
  assignment_id bigint,
  node text,
  start_byte bigint,
  data bytea,
  next text,
  more boolean,
  size bigint,
  error text
)
  language plpgsql volatile security definer rows 1
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  asked mooring_internal.log_request;
begin
  -- the agent writes the same row: it notes that it knows the request, and answers
  perform mooring_internal.limit_idle();
  delete from mooring_internal.log_request r
   where r.id = read_log.request
     and r.answered_at is not null
     and mooring_internal.acts_for(r.requested_by)
  returning r.* into asked;
  if asked.id is not null then
    return query
      select asked.assignment_id,
          (select n.name from mooring.node n where n.id = asked.node_id),
          asked.start_byte, asked.data, asked.next, asked.more, asked.size, asked.error;
    return;
  end if;
  select r.* into asked
    from mooring_internal.log_request r
   where r.id = read_log.request and mooring_internal.acts_for(r.requested_by);
  if asked.id is null then
    raise exception using
      errcode = 'MR003',
      message = format(
        'there is no request %s for a log', coalesce(read_log.request::text, 'null')),
      hint = 'An answer can be read once, within a minute, and by the login that requested it. '
        'Request it again: select mooring.request_log(...).';
  elsif asked.answered_at is null
    and clock_timestamp() > asked.requested_at + asked.wait + interval '10 s'
  then
    perform mooring_internal.raise_no_answer(asked.node_id, asked.assignment_id);
  elsif clock_timestamp() > asked.hinted_at + interval '1 s' then
    update mooring_internal.log_request r
       set hinted_at = clock_timestamp()
     where r.id = asked.id and r.answered_at is null;
    perform mooring_internal.hint_log_request(asked.node_id);
  end if;
end;
$$;
comment on function mooring.read_log(uuid) is
  'The requested slice of a log, once. No row: it is not there yet, call again. '
  'data holds the bytes as written: log_text(data) shows them.';
--! EndIncluded functions/logs/read_log.sql
--! Included functions/logs/log_text.sql
-- A log holds bytes. Bytes that are no text in this database are shown with escapes, not rejected.
create or replace function mooring.log_text(data bytea) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return convert_from(log_text.data, 'UTF8');
exception when data_exception or program_limit_exceeded then
  return encode(log_text.data, 'escape');
end;
$$;
comment on function mooring.log_text(bytea) is
  'A slice of a log as text; what is not UTF-8 is shown with escapes.';
--! EndIncluded functions/logs/log_text.sql
--! Included functions/logs/show_log.sql
-- show_log: the last lines of a log, from any host, in one statement: call mooring.show_log(7).
-- It is a procedure because the agent sees a request only after a commit. A procedure that commits
-- can be neither SECURITY DEFINER nor pin its search_path, so it does what its caller may do with
-- request_log() and read_log().
create or replace procedure mooring.show_log(
  assignment bigint,
  lines int default 50,
  node text default null,
  inout log text default null
)
  language plpgsql
as $$
declare
  request uuid;
  answer record;
  bytes bytea := '';
begin
  if statement_timestamp() <> transaction_timestamp() then
    raise exception using
      errcode = 'MR008',
      message = 'show_log() has to commit its request, and cannot in the middle of a transaction',
      hint = 'End the transaction first. Or call mooring.request_log(), commit, and then '
        'select mooring.log_text(data) from mooring.read_log(...).';
  end if;
  request := mooring.request_log(
    show_log.assignment, tail_lines => show_log.lines, node => show_log.node);
  loop
    commit;
    select r.* into answer
      from mooring.read_log(request) r;
    if not found then
      perform pg_catalog.pg_sleep(0.05);
      continue;
    elsif answer.error is not null then
      raise exception using
        errcode = 'MR006',
        message = answer.error,
        hint = pg_catalog.format(
          'mooring.history(%1$s) lists where else it ran: '
          'call mooring.show_log(%1$s, node => ...).',
          show_log.assignment);
    end if;
    bytes := bytes || answer.data;
    exit when not answer.more or pg_catalog.octet_length(bytes) > 1048576;
    request := mooring.request_log(
      show_log.assignment, after => answer.next, node => answer.node);
  end loop;
  log := mooring.log_text(bytes)
    || case
      when answer.more then pg_catalog.format(
        E'\n[1 MiB: for more type mooring logs %s]', show_log.assignment)
      else ''
    end;
end;
$$;
comment on procedure mooring.show_log(bigint, int, text, text) is
  'The last lines of a log, from the host it is on: call mooring.show_log(7), or with the number '
  'of lines: call mooring.show_log(7, 500). Without the frame of psql: end the statement with '
  '\g (format=unaligned tuples_only=on) in place of the semicolon.';
--! EndIncluded functions/logs/show_log.sql

-- history: events and past owners
--! Included functions/history/change.sql
-- One expression, so that it inlines into the triggers that call it for every column of every row.
-- Polymorphic functions have no standard body, so its names are qualified instead.
create or replace function mooring_internal.change(before anyelement, after anyelement)
  returns jsonb
  language sql stable
as $$
  select case
    when before is distinct from after then pg_catalog.jsonb_build_array(before, after)
  end
$$;
comment on function mooring_internal.change(anyelement, anyelement) is
  '[before, after] of a column for event.detail; null where nothing changed.';
--! EndIncluded functions/history/change.sql
--! Included functions/history/hidden_change.sql
-- One expression, so that it inlines: see change().
create or replace function mooring_internal.hidden_change(before anyelement, after anyelement)
  returns text
  language sql immutable
as $$
  select case when before is distinct from after then 'changed' end
$$;
comment on function mooring_internal.hidden_change(anyelement, anyelement) is
  'Like change(), for a column whose values may be secret: "changed" or null.';
--! EndIncluded functions/history/hidden_change.sql
--! Included functions/history/changed_columns.sql
-- For tables with few rows. It takes rows as jsonb, so that a new column needs no edit here.
create or replace function mooring_internal.changed_columns(before jsonb, after jsonb)
  returns jsonb
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select jsonb_object_agg(a.key, jsonb_build_array(b.value, a.value))
    from jsonb_each(changed_columns.after) a
    join jsonb_each(changed_columns.before) b on b.key = a.key
   where a.value <> b.value;
end;
comment on function mooring_internal.changed_columns(jsonb, jsonb) is
  'What differs between two versions of a row, as {column: [before, after]}; null for nothing.';
--! EndIncluded functions/history/changed_columns.sql
--! Included functions/history/last_events.sql
create or replace function mooring.last_events(n int default 50) returns setof mooring.event
  language sql stable security definer rows 50
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select l.*
    from (select e.* from mooring.event e order by e.id desc limit greatest(last_events.n, 0)) l
   order by l.id;
end;
comment on function mooring.last_events(int) is 'The last n events, oldest first.';
--! EndIncluded functions/history/last_events.sql
--! Included functions/history/history.sql
-- The owners of an assignment: one row for each epoch that had an owner, oldest first.
-- An epoch ends where a later epoch begins. When the clock was set back in between, the earliest
-- later beginning counts, so that no instant has two owners here either.
-- The history reaches back as far as setting.event_retention. The present owner is always in it.
create or replace function mooring.history(assignment bigint) returns table (
  epoch bigint,
  node text,
  since timestamptz,
  until timestamptz,
  why text,
  actor text,
  ended_why text,
  ended_by text
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select from mooring.ownership o where o.assignment_id = history.assignment)
     and not exists (select from mooring.assignment a where a.id = history.assignment) then
    perform mooring_internal.raise_no_such_assignment(history.assignment);
  end if;
  return query
    select o.epoch, o.node, o.since, o.until, o.why, o.actor, o.ended_why, o.ended_by
      from (select w.epoch, w.node_id, w.node, w.began_at as since,
                min(w.began_at) over later as until, w.reason as why, w.actor,
                first_value(w.reason) over later as ended_why,
                first_value(w.actor) over later as ended_by
              from mooring.ownership w
             where w.assignment_id = history.assignment
            window later as
              (order by w.epoch rows between 1 following and unbounded following)) o
     where o.node_id is not null
     order by o.epoch;
end;
$$;
comment on function mooring.history(bigint) is
  'The owners of an assignment: from when until when (null: still), why it came and why it left. '
  'Oldest first.';
--! EndIncluded functions/history/history.sql
--! Included functions/history/placement_at.sql
-- The owner of each assignment at an instant, daemons included.
-- Per assignment the latest epoch that had begun by then counts, so there is at most one owner,
-- whatever the clock did. Ownership does not say that the instance ran: its owner may still have
-- been starting or already stopping it. The events of that time tell.
create or replace function mooring.placement_at(at timestamptz) returns table (
  assignment_id bigint,
  deployment_id bigint,
  node text,
  epoch bigint,
  since timestamptz,
  why text
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  retention interval := (select s.event_retention from mooring.setting s);
begin
  if placement_at.at is null or placement_at.at < clock_timestamp() - retention then
    raise exception using errcode = 'MR007',
      message = case when placement_at.at is null then 'the instant is missing'
        else format('history is kept for %s, and %s is before that', retention, placement_at.at)
        end,
      hint = 'Name a later instant, such as now() - interval ''1 hour''; '
        'setting.event_retention says how long history is kept.';
  end if;
  return query
    select l.assignment_id, l.deployment_id, l.node, l.epoch, l.began_at, l.reason
      from (select distinct on (o.assignment_id) o.*
              from mooring.ownership o
             where o.began_at <= placement_at.at
             order by o.assignment_id desc, o.epoch desc) l
     where l.node_id is not null
     order by l.assignment_id;
end;
$$;
comment on function mooring.placement_at(timestamptz) is
  'The owner of each assignment at that instant, within setting.event_retention.';
--! EndIncluded functions/history/placement_at.sql
--! Included functions/history/prune_events.sql
-- Deletes, a bounded batch of each at a time:
--   events older than setting.event_retention
--   ownerships that ended before that
--   observations (run) of assignments that no longer exist
--   log requests that no client reads, and spent jobs of rounds that failed
-- The newest ownership of an assignment stays while the assignment has an owner. When it has none,
-- the newest row goes once no older row is left.
-- Why there is no index on times: see README.md.
-- locks: only the rows it deletes
create or replace function mooring.prune_events() returns bigint
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  cutoff timestamptz := clock_timestamp() - (select s.event_retention from mooring.setting s);
  slice constant int := 8192;
  pages int := pg_relation_size('mooring.ownership') / current_setting('block_size')::int;
  first_page int := slice * floor(random() * ceil(pages::float8 / slice))::int;
  pruned bigint;
begin
  with old as (
    delete from mooring.event e
     where e.id = any (array(
       select o.id
         from (select n.id, n.at from mooring.event n order by n.id limit 50000) o
        where o.at < cutoff))
    returning 1
  )
  select count(*) into pruned from old;
  with past as materialized (
    select p.assignment_id, p.epoch
      from mooring.ownership p
     where p.ctid >= format('(%s,0)', first_page)::tid
       and p.ctid < format('(%s,0)', first_page + slice)::tid
       and p.began_at < cutoff
       -- by the primary key, for each row
       and ((select min(n.began_at)
               from mooring.ownership n
              where n.assignment_id = p.assignment_id and n.epoch > p.epoch) < cutoff
         or p.node_id is null
         and p.epoch = (select min(b.epoch)
                          from mooring.ownership b
                         where b.assignment_id = p.assignment_id))
     limit 50000
  )
  delete from mooring.ownership o
   using past p
   where o.assignment_id = p.assignment_id and o.epoch = p.epoch;
  delete from mooring.run r
   where r.last_active_at < cutoff
     and not exists (select from mooring.assignment a where a.id = r.assignment_id);
  perform mooring_internal.forget_log_requests();
  begin
    perform mooring_jobs.complete_jobs(array(
      select j.id
        from mooring_jobs.jobs j
       where j.attempts >= j.max_attempts
         and j.locked_at is null
       limit 10000));
  exception when others then
    raise warning 'mooring: spent jobs were not cleaned: %', sqlerrm;
  end;
  perform mooring_internal.finish_round('prune');
  return pruned;
end;
$$;
comment on function mooring.prune_events() is
  'Deletes events, observations and past ownerships older than setting.event_retention; '
  'returns the number of events deleted.';
--! EndIncluded functions/history/prune_events.sql

-- triggers
--! Included triggers/setting.sql
-- Everything reads the one row of setting. Without it no agent could beat, and every node would end
-- what it runs.
create or replace function mooring_internal.tg_setting__keep() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'MR006',
    message = 'the row of mooring.setting cannot be deleted',
    hint = 'Every agent and worker reads it. Update it instead; '
      'to reset a setting: update mooring.setting set lease_ttl = default;';
end;
$$;
comment on function mooring_internal.tg_setting__keep() is 'Keeps the one row of settings.';
create or replace trigger tg_setting__keep
  before delete or truncate on mooring.setting
  for each statement
  execute function mooring_internal.tg_setting__keep();

create or replace function mooring_internal.tg_setting__record() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  insert into mooring.event (kind, reason, detail)
  select 'setting_changed',
      (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k),
      c.changes
    from (select mooring_internal.changed_columns(to_jsonb(old), to_jsonb(new)) as changes) c
   where c.changes is not null;
  return null;
end;
$$;
comment on function mooring_internal.tg_setting__record() is
  'An event says which settings were changed, from what to what, and by whom.';
create or replace trigger tg_setting__record
  after update on mooring.setting
  for each row
  execute function mooring_internal.tg_setting__record();
--! EndIncluded triggers/setting.sql
--! Included triggers/node.sql
-- Triggers of mooring.node.

-- A DELETE of a node by hand holds the node's row before it waits for the placement lock, against
-- the order of forget_node(). When both run at once on one node, the server ends one of them as a
-- deadlock after a second, with nothing lost. The DELETE waits for the lock all the same, because a
-- claim in progress is no reason to fail.
create or replace function mooring_internal.tg_node__guard() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owned int;
  daemons int;
  beat mooring.heartbeat;
begin
  if tg_op = 'DELETE' then
    -- under the placement lock no claim can give the node work between the count and the delete
    perform mooring_internal.lock_placement(must_wait => true);
    select count(*) into owned
      from mooring.assignment a
     where a.node_id = old.id and a.ordinal is not null;
    if owned > 0 then
      raise exception using errcode = 'MR006',
        message = format('node %s owns %s assignments', old.name, owned),
        hint = 'Stop its agent or wait until its lease is over; then delete it.';
    end if;
    select count(*) into daemons
      from mooring.assignment a
     where a.node_id = old.id and a.ordinal is null;
    if daemons > 0 then
      -- the row is locked, so that no beat comes between this read and the delete; a row that is
      -- locked elsewhere is beating now
      select h.* into beat
        from mooring.heartbeat h
       where h.node_id = old.id
         for update skip locked;
      if not found or beat.session is not null
         and beat.beat_at
           + greatest(
             beat.lease_ttl,
             (select max(a.lease_ttl) from mooring.assignment a where a.node_id = old.id))
           + (select s.reap_margin from mooring.setting s) >= clock_timestamp() then
        raise exception using errcode = 'MR006',
          message = format('node %s is live and runs %s daemons', old.name, daemons),
          hint = 'Stop its agent first; then delete it.';
      end if;
    end if;
    perform set_config('mooring.owner_is_done', 'yes', true);
    delete from mooring.assignment a
     where a.node_id = old.id and a.ordinal is null;
    perform set_config('mooring.owner_is_done', '', true);
    perform mooring_internal.add_event('node_forgotten', 'by an operator', old.id);
    return old;
  end if;
  if tg_op = 'UPDATE' and (new.id, new.name) is distinct from (old.id, old.name) then
    raise exception using errcode = 'MR006',
      message = format('node %s cannot be renamed', old.name),
      hint = 'Start an agent under the new name and delete this node when it owns nothing.';
  end if;
  perform mooring_internal.check_trust_pattern(new.trusts);
  if new.draining_since is null then
    -- a drain that ends by hand ends as undrain_node() ends it
    new.drain_to := null;
    new.drain_max_moves := null;
    new.drain_deadline_at := null;
    new.drain_total := null;
    new.drained_at := null;
  end if;
  if tg_op = 'UPDATE' then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end;
$$;
comment on function mooring_internal.tg_node__guard() is
  'A node keeps its name and has a valid trust pattern. It is not deleted while it owns replicas, '
  'or is live and runs daemons.';
create or replace trigger tg_node__guard_insert
  before insert on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();
create or replace trigger tg_node__guard_update
  before update on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();
create or replace trigger tg_node__guard_delete
  before delete on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();

create or replace function mooring_internal.tg_node__arrive() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  nodes int[];
begin
  select array_agg(n.id) into nodes from new_node n;
  if nodes is null then
    return null;
  end if;
  insert into mooring.heartbeat (node_id, node, role_name)
  select n.id, n.name, n.role_name from new_node n;
  insert into mooring.event (kind, node_id, node, reason)
  select 'node_added', n.id, n.name, 'a new node'
    from new_node n
   order by n.id;
  perform mooring_internal.make_daemons(nodes => nodes);
  return null;
end;
$$;
comment on function mooring_internal.tg_node__arrive() is
  'A new node gets its heartbeat row and its daemons, and an event says who added it.';
create or replace trigger tg_node__arrive
  after insert on mooring.node
  referencing new table as new_node
  for each statement
  execute function mooring_internal.tg_node__arrive();

create or replace function mooring_internal.tg_node__change() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  permits int[];
  opened int[];
  grows boolean;
begin
  select array_agg(n.id) filter (
        where (n.labels, n.trusts, n.drivers, n.agent_base_url, n.gateway_base_url)
          is distinct from (
            o.labels, o.trusts, o.drivers, o.agent_base_url, o.gateway_base_url)),
      array_agg(n.id) filter (
        where n.enabled and not o.enabled
           or n.draining_since is null and o.draining_since is not null
           or n.held_until is null and o.held_until is not null),
      bool_or((n.enabled, n.draining_since, n.weight, n.max_assignments)
        is distinct from (o.enabled, o.draining_since, o.weight, o.max_assignments))
    into permits, opened, grows
    from new_node n
    join old_node o on o.id = n.id;
  insert into mooring.event (kind, node_id, node, reason)
  select case when n.enabled then 'node_enabled' else 'node_disabled' end, n.id, n.name,
      'by an operator'
    from new_node n
    join old_node o on o.id = n.id
   where n.enabled <> o.enabled
   order by n.id;
  insert into mooring.event (kind, node_id, node, reason, detail)
  select 'node_changed', c.id, c.name,
      (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k),
      c.changes
    from (select n.id, n.name,
              jsonb_strip_nulls(jsonb_build_object(
                'weight', mooring_internal.change(o.weight, n.weight),
                'labels', mooring_internal.change(o.labels, n.labels),
                'max_assignments',
                mooring_internal.change(o.max_assignments, n.max_assignments),
                'agent_base_url', mooring_internal.change(o.agent_base_url, n.agent_base_url),
                'gateway_base_url',
                mooring_internal.change(o.gateway_base_url, n.gateway_base_url),
                'trusts', mooring_internal.change(o.trusts, n.trusts),
                'drivers', mooring_internal.change(o.drivers, n.drivers))) as changes
            from new_node n
            join old_node o on o.id = n.id) c
   where c.changes <> '{}'
   order by c.id;
  if exists (
    select from new_node n
      join old_node o on o.id = n.id
     where n.role_name
       is distinct from o.role_name) then
    -- the beats of these nodes wait until this transaction commits
    perform mooring_internal.limit_idle();
    update mooring.heartbeat h
       set role_name = n.role_name
      from new_node n
      join old_node o on o.id = n.id
     where h.node_id = n.id
       and n.role_name is distinct from o.role_name;
    insert into mooring.event (kind, node_id, node, reason, detail)
    select 'node_rebound', n.id, n.name,
        format('it now belongs to %s',
          coalesce('role ' || n.role_name, 'the role that registers it next')),
        jsonb_build_object('from', o.role_name, 'to', n.role_name)
      from new_node n
      join old_node o on o.id = n.id
     where o.role_name is not null
       and n.role_name is distinct from o.role_name
     order by n.id;
  end if;
  if permits is not null then
    perform mooring.evict(nodes => permits);
  end if;
  if permits is not null or opened is not null then
    perform mooring_internal.make_daemons(nodes => permits || opened);
  end if;
  if permits is not null or grows then
    perform mooring_internal.enqueue('place');
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_node__change() is
  'Stops what a node is no longer permitted to run and tries pending work again. '
  'The heartbeat row follows the role of its node, and events say what changed.';
create or replace trigger tg_node__change
  after update on mooring.node
  referencing old table as old_node new table as new_node
  for each statement
  execute function mooring_internal.tg_node__change();

-- A node without its heartbeat row would have no lease that could end, so what it owns would never
-- be reaped.
create or replace function mooring_internal.tg_heartbeat__guard() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if exists (select from mooring.node n where n.id = old.node_id) then
    raise exception using errcode = 'MR006',
      message = format('the heartbeat of node %s cannot be deleted', old.node),
      hint = format('It goes with the node: select mooring.forget_node(%L).', old.node);
  end if;
  return old;
end;
$$;
comment on function mooring_internal.tg_heartbeat__guard() is
  'A heartbeat row ends only with its node.';
create or replace trigger tg_heartbeat__guard
  before delete on mooring.heartbeat
  for each row
  execute function mooring_internal.tg_heartbeat__guard();
--! EndIncluded triggers/node.sql
--! Included triggers/deployment.sql
-- Triggers of mooring.deployment. There is one per event, for a whole statement, so that COPY and
-- INSERT..SELECT of 100,000 rows are one piece of work.

create or replace function mooring_internal.tg_deployment__arrive() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  made bigint;
  arrived bigint[];
begin
  select array_agg(d.id) into arrived from new_deployment d;
  if arrived is null then
    return null;
  elsif cardinality(arrived) <= 1000 then
    insert into mooring.event (kind, deployment_id, reason, actor, detail)
    select 'deployment_added', d.id,
        concat_ws(': ', d.name, coalesce(d.package_name || '@' || d.package_version, 'a command')),
        (select mooring_internal.actor()),
        jsonb_strip_nulls(jsonb_build_object('name', d.name, 'type', d.type))
      from new_deployment d
     order by d.id;
  else
    -- an event for each would take a fifth of the time of the whole INSERT
    insert into mooring.event (kind, reason, detail)
    select 'deployment_added', format('%s at once, ids %s to %s', count(*), min(d.id), max(d.id)),
        jsonb_build_object('count', count(*), 'first_id', min(d.id), 'last_id', max(d.id))
      from new_deployment d;
  end if;
  perform mooring_internal.note_namesakes(arrived);
  made := mooring_internal.insert_missing_assignments(arrived, are_new => true);
  if made < (select sum(d.replicas) from new_deployment d where d.type = 'deployment')
     or exists (
       select from mooring.assignment a
        where a.surplus and a.deployment_id = any (arrived))
  then
    -- the same id existed before and its processes still have to stop; its rows stay until then,
    -- see release()
    perform mooring_internal.make_assignments(arrived);
  end if;
  if exists (select from new_deployment d where d.type = 'daemon') then
    select array_agg(d.id) into arrived
      from new_deployment d
     where d.type = 'daemon';
    perform mooring_internal.make_daemons(deployments => arrived);
  end if;
  perform mooring_internal.enqueue('place');
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__arrive() is
  'New deployments get their assignments and one place job for the whole transaction. An event '
  'tells who added which; more than 1000 in one statement share one.';
create or replace trigger tg_deployment__arrive
  after insert on mooring.deployment
  referencing new table as new_deployment
  for each statement
  execute function mooring_internal.tg_deployment__arrive();

create or replace function mooring_internal.tg_deployment__stamp() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if (new.id, new.type) is distinct from (old.id, old.type) then
    raise exception using errcode = 'MR006',
      message = format('deployment %s cannot change its %s', old.id,
        case when new.id is distinct from old.id then 'id' else 'type' end),
      hint = 'Insert a new deployment and delete this one.';
  end if;
  if (new.package_name, new.package_version, new.command, new.args, new.env)
     is distinct from
     (old.package_name, old.package_version, old.command, old.args, old.env) then
    new.generation := greatest(new.generation, old.generation + 1);
  else
    new.generation := greatest(new.generation, old.generation);
  end if;
  if new.updated_at = old.updated_at
     and (
       new.generation, new.policy, new.selector, new.pinned_node, new.needs_urls, new.enabled,
       new.replicas, new.name, new.labels, new.on_lost, new.handover, new.lease_ttl, new.stop_grace)
     is distinct from (
       old.generation, old.policy, old.selector, old.pinned_node, old.needs_urls, old.enabled,
       old.replicas, old.name, old.labels, old.on_lost, old.handover, old.lease_ttl, old.stop_grace)
  then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end;
$$;
comment on function mooring_internal.tg_deployment__stamp() is
  'Raises generation when what must run changes, and keeps id and type.';
create or replace trigger tg_deployment__stamp
  before update on mooring.deployment
  for each row
  execute function mooring_internal.tg_deployment__stamp();

create or replace function mooring_internal.tg_deployment__change() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  changed bigint[];
  reshaped bigint[];
  moved bigint[];
  daemons bigint[];
begin
  -- Old and new values stand in the event where a viewer may read the column. Arguments, commands
  -- and the environment may hold secrets, so there only the name does.
  insert into mooring.event (kind, deployment_id, reason, actor, detail)
  select 'deployment_changed', c.id,
      concat_ws(': ', c.name, (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k)),
      (select mooring_internal.actor()),
      c.changes
    from (select n.id, n.name,
              jsonb_strip_nulls(jsonb_build_object(
                'name', mooring_internal.change(o.name, n.name),
                'labels', mooring_internal.change(o.labels, n.labels),
                'package_name', mooring_internal.change(o.package_name, n.package_name),
                'package_version',
                mooring_internal.change(o.package_version, n.package_version),
                'command', mooring_internal.hidden_change(o.command, n.command),
                'args', mooring_internal.hidden_change(o.args, n.args),
                'env', mooring_internal.hidden_change(o.env, n.env),
                'enabled', mooring_internal.change(o.enabled, n.enabled),
                'replicas', mooring_internal.change(o.replicas, n.replicas),
                'policy', mooring_internal.change(o.policy, n.policy),
                'selector', mooring_internal.change(o.selector, n.selector),
                'pinned_node', mooring_internal.change(o.pinned_node, n.pinned_node),
                'needs_urls', mooring_internal.change(o.needs_urls, n.needs_urls),
                'on_lost', mooring_internal.change(o.on_lost, n.on_lost),
                'handover', mooring_internal.change(o.handover, n.handover),
                'lease_ttl', mooring_internal.change(o.lease_ttl, n.lease_ttl),
                'stop_grace', mooring_internal.change(o.stop_grace, n.stop_grace),
                'generation', mooring_internal.change(o.generation, n.generation))) as changes
            from new_deployment n
            join old_deployment o on o.id = n.id) c
   where c.changes <> '{}'
   order by c.id;
  perform mooring_internal.note_namesakes(array(
    select n.id
      from new_deployment n
      join old_deployment o on o.id = n.id
     where n.name <> coalesce(o.name, '')));
  select array_agg(n.id) filter (where n.type = 'deployment'),
      array_agg(n.id) filter (
        where n.type = 'deployment'
          and (n.enabled, n.replicas, n.signature)
            is distinct from (o.enabled, o.replicas, o.signature)),
      array_agg(n.id) filter (where n.signature <> o.signature),
      array_agg(n.id) filter (where n.type = 'daemon')
    into changed, reshaped, moved, daemons
    from new_deployment n
    join old_deployment o on o.id = n.id
   where (
         n.enabled, n.replicas, n.signature, n.generation, n.on_lost, n.handover, n.stop_grace)
     is distinct from (
         o.enabled, o.replicas, o.signature, o.generation, o.on_lost, o.handover, o.stop_grace);
  if changed is null and daemons is null then
    return null;
  end if;
  if daemons is not null then
    perform mooring_internal.make_daemons(deployments => daemons);
  end if;
  perform mooring_internal.make_assignments(reshaped);
  perform mooring_internal.requeue(changed);
  if moved is not null then
    perform mooring.evict(deployments => moved);
  end if;
  perform mooring_internal.notify_nodes((
    select array_agg(distinct a.node_id)
      from mooring.assignment a
     where a.deployment_id = any (changed || daemons) and a.node_id is not null));
  perform mooring_internal.enqueue('place');
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__change() is
  'Assignments follow the changed specs; owners are notified, and work that is no longer permitted '
  'stops. An event for each says what changed.';
create or replace trigger tg_deployment__change
  after update on mooring.deployment
  referencing old table as old_deployment new table as new_deployment
  for each statement
  execute function mooring_internal.tg_deployment__change();

create or replace function mooring_internal.tg_deployment__end() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  ended bigint[];
begin
  select array_agg(o.id) into ended from old_deployment o;
  if ended is null then
    return null;
  end if;
  insert into mooring.event (kind, deployment_id, reason, actor, detail)
  select 'deployment_deleted', o.id,
      concat_ws(': ', o.name, coalesce(o.package_name || '@' || o.package_version, 'a command')),
      (select mooring_internal.actor()),
      jsonb_strip_nulls(jsonb_build_object(
        'name', o.name,
        'type', o.type,
        'generation', o.generation,
        'replicas', o.replicas))
    from old_deployment o
   order by o.id;
  perform mooring_internal.make_assignments(ended);
  insert into mooring_internal.stopping_deployment (id, name)
  select o.id, o.name
    from old_deployment o
   where o.name is not null
     and exists (select from mooring.assignment a where a.deployment_id = o.id)
  on conflict (id) do update
     set name = excluded.name;
  if exists (select from old_deployment o where o.type = 'daemon') then
    perform mooring_internal.make_daemons(deployments => ended);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__end() is
  'Pending rows are deleted; owned rows are ordered to stop and stay until their processes are '
  'gone. An event for each keeps its name.';
create or replace trigger tg_deployment__end
  after delete on mooring.deployment
  referencing old table as old_deployment
  for each statement
  execute function mooring_internal.tg_deployment__end();

create or replace function mooring_internal.tg_refuse_truncate() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'MR006',
    message = format('%I cannot be truncated', tg_table_name),
    hint = case tg_table_name
      when 'heartbeat' then
        'Its rows go with their nodes: delete those, or select mooring.forget_node(...).'
      when 'node_load' then
        'Loads are kept in it; the evict round recounts them where they are wrong: '
        'select from mooring.evict();'
      else
        'Processes would run on without an owner. '
        'Use delete: the processes are stopped and their rows go when they are gone.' end;
end;
$$;
comment on function mooring_internal.tg_refuse_truncate() is
  'Refuses TRUNCATE, because it would leave running processes without an owner.';
create or replace trigger tg_deployment__refuse_truncate
  before truncate on mooring.deployment
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_assignment__refuse_truncate
  before truncate on mooring.assignment
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_heartbeat__refuse_truncate
  before truncate on mooring.heartbeat
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_node_load__refuse_truncate
  before truncate on mooring_internal.node_load
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_node__refuse_truncate
  before truncate on mooring.node
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
--! EndIncluded triggers/deployment.sql
--! Included triggers/assignment.sql
-- Triggers of mooring.assignment.

-- Loads, history and hints follow the rows, whatever statement wrote them. Each epoch of a row is
-- recorded once, with the times that the row was given under its lock.
-- The name is read from heartbeat, not from node: this runs in every report, and DDL on node must
-- not block a report.
create or replace function mooring_internal.tg_assignment__follow() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- the plan is made once, for one row or for ten thousand; a loop never joins two sets of unknown
  -- size
  set enable_nestloop = off
as $$
declare
  owners int[];
begin
  -- the old and the new version of a row are joined once, because they are wide and all three
  -- statements below use the same few columns
  with pair as materialized (
    select n.id, n.epoch, n.deployment_id, n.ordinal, n.node_id, o.node_id as node_id_before,
        o.epoch as epoch_before, coalesce(n.assigned_at, n.waiting_since) as began_at,
        n.owner_reason
      from new_assignment n
      join old_assignment o on o.id = n.id
  ),
  -- owners before and after; a row that only changed its place in the queue has none
  owner as materialized (
    select p.node_id
      from pair p
     where p.node_id is not null
    union
    select p.node_id_before
      from pair p
     where p.node_id_before is not null
  ),
  name as materialized (
    select h.node_id, h.node
      from mooring.heartbeat h
     where h.node_id = any (array(select w.node_id from owner w))
  ),
  counted as (
    insert into mooring_internal.node_load (node_id, change)
    select c.node_id, sum(c.change)
      from (select p.node_id_before as node_id, -1 as change
              from pair p
             where p.node_id_before is not null and p.ordinal is not null
            union all
            select p.node_id, 1
              from pair p
             where p.node_id is not null and p.ordinal is not null) c
     group by c.node_id
    having sum(c.change) <> 0
  ),
  recorded as (
    insert into mooring.ownership (
      assignment_id, epoch, deployment_id, node_id, node, began_at, reason, actor)
    select p.id, p.epoch, p.deployment_id, p.node_id, m.node, p.began_at, p.owner_reason,
        (select mooring_internal.actor())
      from pair p
      left join name m on m.node_id = p.node_id
     where p.epoch <> p.epoch_before
  )
  select array_agg(w.node_id) into owners from owner w;
  perform mooring_internal.notify_nodes(owners);
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__follow() is
  'Keeps node_load, records each new epoch with its owner, and hints every node whose set changed, '
  'once per transaction.';
create or replace trigger tg_assignment__follow
  after update on mooring.assignment
  referencing old table as old_assignment new table as new_assignment
  for each statement
  execute function mooring_internal.tg_assignment__follow();

create or replace function mooring_internal.tg_assignment__follow_delete() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owners int[];
begin
  insert into mooring_internal.node_load (node_id, change)
  select o.node_id, -count(*)
    from old_assignment o
   where o.node_id is not null and o.ordinal is not null
   group by o.node_id;
  select array_agg(o.node_id) into owners from old_assignment o;
  perform mooring_internal.notify_nodes(owners);
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__follow_delete() is
  'Keeps node_load and hints the owner when an owned row ends.';
create or replace trigger tg_assignment__follow_delete
  after delete on mooring.assignment
  referencing old table as old_assignment
  for each statement
  execute function mooring_internal.tg_assignment__follow_delete();

-- A row that ends with an owner ends that ownership. A row that is born with an owner (a daemon's,
-- a successor's) begins one; a successor also counts as load and is hinted.
-- The trigger fires row by row, because such rows are few. An insert of 100,000 pending rows pays
-- only for one comparison a row.
create or replace function mooring_internal.tg_assignment__record_owned() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    insert into mooring.ownership (assignment_id, epoch, deployment_id, began_at, reason)
    values (
      old.id, mooring_internal.next_epoch(old.epoch), old.deployment_id, clock_timestamp(),
      coalesce(old.stop_reason, 'its row was deleted'));
  else
    insert into mooring.ownership (
      assignment_id, epoch, deployment_id, node_id, node, began_at, reason)
    values (
      new.id, new.epoch, new.deployment_id, new.node_id,
      (select n.name from mooring.node n where n.id = new.node_id),
      new.assigned_at, new.owner_reason);
    if new.ordinal is not null then
      insert into mooring_internal.node_load (node_id, change)
      values (new.node_id, 1);
      perform mooring_internal.notify_nodes(array[new.node_id]);
    end if;
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__record_owned() is
  'Records, and counts, the owner of a row that is born with one, '
  'and the end of a row that ends with an owner.';
create or replace trigger tg_assignment__record_birth
  after insert on mooring.assignment
  for each row
  when (new.node_id is not null)
  execute function mooring_internal.tg_assignment__record_owned();
create or replace trigger tg_assignment__record_end
  after delete on mooring.assignment
  for each row
  when (old.node_id is not null)
  execute function mooring_internal.tg_assignment__record_owned();

-- A DBA may place or free a row by hand. Its epoch goes up, as for any other change of owner, and
-- never goes back. Two changes are refused, because the first owner may still run the row:
--   from one owner to another in one step
--   freeing it from an owner that may still run it: the next claim would start it a second time
-- A change is by hand when it does not raise the epoch or does not change owner_reason, because
-- each verb writes another owner_reason than the one before.
-- locks: the row itself, heartbeat (skip locked), and to place the placement lock (tried).
--   Waiting for it would deadlock with reassign() and restart(), which take it before the row.
create or replace function mooring_internal.tg_assignment__by_hand() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  wanted boolean;
begin
  if new.epoch < old.epoch then
    raise exception using errcode = 'MR006',
      message = format(
        'the epoch of assignment %s cannot go back from %s to %s', old.id, old.epoch, new.epoch),
      hint = 'Leave epoch out: it goes up by itself.';
  end if;
  if old.node_id is not null and new.node_id is not null then
    raise exception using errcode = 'MR006',
      message = format('assignment %s cannot go from one owner to another in one step', old.id),
      hint = 'The first may still run it. '
        'Disable the first node or its deployment, or change the pin, and let it stop.';
  end if;
  if new.node_id is not null then
    if not mooring_internal.try_lock_placement() then
      raise exception using errcode = 'MR004',
        message = format(
          'assignment %s cannot be placed by hand: another transaction is placing', old.id),
        detail = format('pid %s holds placement', mooring_internal.placement_lock_holder()),
        hint = format(
          'Try again, or use mooring.reassign(%s, ...), which waits. By hand you wait with: '
          'begin; select mooring_internal.lock_placement(must_wait => true); and then the update.',
          old.id);
    end if;
    perform mooring_internal.lock_placement(must_wait => true);
    if not exists (select from mooring.node n where n.id = new.node_id) then
      raise exception using errcode = 'MR003',
        message = format('there is no node with id %s', new.node_id),
        hint = 'See node_id in mooring.node_status.';
    end if;
    new.lease_ttl := coalesce(
      new.lease_ttl,
      (select d.lease_ttl from mooring.deployment d where d.id = new.deployment_id),
      (select s.lease_ttl from mooring.setting s));
    new.assigned_at := clock_timestamp();
    new.waiting_since := null;
    -- the promise of another place ends; otherwise that place would be kept, and counted among the
    -- moves of the node the move came from, for ever
    new.move_to := null;
    new.move_reason := null;
  else
    if mooring_internal.owner_may_run(old) then
      raise exception using errcode = 'MR006',
        message = format('assignment %s cannot be freed: its owner may still run it', old.id),
        hint = format(
          'Let the owner stop it: update mooring.assignment set wanted = ''stop'' where id = %s. '
          'To choose where it goes next: mooring.reassign(). '
          'A dead owner loses it by itself when lease and margin have ended.',
          old.id);
    end if;
    perform mooring_internal.raise_if_freed_in_handover(old);
    perform mooring_internal.limit_idle();
    -- the deployment decides what becomes of the row, as in release(); if there is no deployment
    -- any more, the evict round deletes the row
    wanted := exists (
      select from mooring.deployment d
       where d.id = old.deployment_id
         and d.type = 'deployment'
         and d.enabled
         and not old.surplus);
    new.wanted := case when wanted then 'run' else 'stop' end;
    new.surplus := false;
    new.stop_reason := null;
    if not wanted or old.wanted = 'run' then
      new.move_to := null;
      new.move_reason := null;
    end if;
    new.handover_failed_at := null;
    new.handover_error := null;
    new.lease_ttl := null;
    new.assigned_at := null;
    new.waiting_since := clock_timestamp();
    new.last_node_id := old.node_id;
  end if;
  new.epoch := mooring_internal.next_epoch(old.epoch);
  new.owner_reason := 'by hand';
  insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
  select case when new.node_id is null then 'released' else 'claimed' end,
      new.id, new.deployment_id, n.id, n.name, new.epoch, new.owner_reason
    from (select coalesce(new.node_id, old.node_id) as id) o
    left join mooring.node n on n.id = o.id;
  return new;
end;
$$;
comment on function mooring_internal.tg_assignment__by_hand() is
  'A plain UPDATE of the owner that writes no new owner_reason raises the epoch. It is refused '
  'from owner to owner, and while the owner may still run the assignment.';
create or replace trigger tg_assignment__by_hand
  before update on mooring.assignment
  for each row
  when (
    new.epoch < old.epoch
    or new.node_id is distinct from old.node_id
    and (new.epoch = old.epoch or new.owner_reason is not distinct from old.owner_reason))
  execute function mooring_internal.tg_assignment__by_hand();

-- A delete of an owned row by hand frees it by hand. With a live owner, the row that replaces it
-- would be given away while the old process still runs, and nothing would be left to fence that.
-- release() and the delete of a node delete rows whose processes are gone. They say so by setting
-- mooring.owner_is_done around the statement. (In the head of a function only a superuser may name
-- such a setting, and the owner of the schema need not be one.)
-- locks: heartbeat (skip locked)
create or replace function mooring_internal.tg_assignment__end_by_hand() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if mooring_internal.owner_may_run(old) then
    raise exception using errcode = 'MR006',
      message = format('assignment %s cannot be deleted: its owner may still run it', old.id),
      hint = format(
        'Disable or delete deployment %s, or scale it down: the owner stops it, '
        'and the row goes when its processes are gone. '
        'A dead owner loses it by itself when lease and margin have ended.',
        old.deployment_id);
  end if;
  perform mooring_internal.raise_if_freed_in_handover(old);
  perform mooring_internal.limit_idle();
  return old;
end;
$$;
comment on function mooring_internal.tg_assignment__end_by_hand() is
  'An owned row is not deleted by hand while its owner may still run it.';
create or replace trigger tg_assignment__end_by_hand
  before delete on mooring.assignment
  for each row
  when (
    old.node_id is not null
    and coalesce(current_setting('mooring.owner_is_done', true), '') = '')
  execute function mooring_internal.tg_assignment__end_by_hand();
--! EndIncluded triggers/assignment.sql

-- views, and what returns their rows
--! Included views/placement.sql
create or replace view mooring.placement as
  select a.id as assignment_id,
      a.deployment_id,
      d.name,
      case when a.ordinal is null then 'daemon' else 'deployment' end as type,
      a.ordinal,
      d.package_name,
      d.package_version,
      coalesce(d.policy, s.default_policy) as policy,
      n.name as node,
      a.epoch,
      a.wanted,
      case
        when a.node_id is not null and r.epoch = a.epoch then case
          when mooring_internal.node_is_live(h) or r.state in ('stopped', 'refused') then r.state
          else 'unknown'
        end
      end as run_state,
      case when a.node_id is not null and r.epoch = a.epoch then r.pid end as pid,
      case when r.epoch = a.epoch then r.restarts else 0 end as restarts,
      r.last_error,
      a.assigned_at,
      r.last_deployed_at,
      r.last_active_at,
      r.last_error_at,
      r.exit_code,
      r.exit_signal,
      r.next_start_at,
      a.stop_reason,
      a.waiting_since,
      l.name as last_node,
      t.name as move_to,
      a.move_reason,
      a.handover
    from mooring.assignment a
   cross join mooring.setting s
    left join mooring.deployment d on d.id = a.deployment_id
    left join mooring.node n on n.id = a.node_id
    left join mooring.heartbeat h on h.node_id = a.node_id
    left join mooring.node l on l.id = a.last_node_id
    left join mooring.node t on t.id = a.move_to
    left join mooring.run r on r.assignment_id = a.id;
comment on view mooring.placement is
  'What runs where: one row per assignment with its owner and the last observation. '
  'While a start-first replica is handed over it has two rows.';
comment on column mooring.placement.assignment_id is
  'The assignment; MOORING_ASSIGNMENT_ID of its process.';
comment on column mooring.placement.deployment_id is
  'The deployment. Its other columns are null where it was deleted and the process still stops.';
comment on column mooring.placement.name is 'Name of the deployment.';
comment on column mooring.placement.type is 'deployment or daemon.';
comment on column mooring.placement.ordinal is 'Which replica; null for a daemon.';
comment on column mooring.placement.package_name is 'npm package.';
comment on column mooring.placement.package_version is 'Version or tag.';
comment on column mooring.placement.policy is 'Policy in force.';
comment on column mooring.placement.node is 'Owner; null: pending.';
comment on column mooring.placement.epoch is 'Fencing token; MOORING_EPOCH of its process.';
comment on column mooring.placement.wanted is 'run or stop.';
comment on column mooring.placement.run_state is
  'Last observed state under this epoch. null: not yet observed. '
  'unknown: its node has been silent for longer than its lease.';
comment on column mooring.placement.pid is 'Process id on the node.';
comment on column mooring.placement.restarts is 'Restarts under this epoch.';
comment on column mooring.placement.last_error is
  'The last error of the assignment, under whatever epoch; last_error_at says how old it is. '
  'It is gone when a first attempt runs. After a restart it says why there was one.';
comment on column mooring.placement.assigned_at is 'Since when its owner has it.';
comment on column mooring.placement.last_deployed_at is
  'Last successful start of an epoch or generation.';
comment on column mooring.placement.last_active_at is 'Last report.';
comment on column mooring.placement.last_error_at is 'When last_error happened.';
comment on column mooring.placement.exit_code is 'Exit code of the last exit.';
comment on column mooring.placement.exit_signal is 'Signal of the last exit.';
comment on column mooring.placement.next_start_at is 'When the agent starts it again.';
comment on column mooring.placement.stop_reason is 'Why wanted is stop.';
comment on column mooring.placement.waiting_since is 'Pending since.';
comment on column mooring.placement.last_node is 'The owner before.';
comment on column mooring.placement.move_to is 'The node to which it goes next.';
comment on column mooring.placement.move_reason is
  'Why it is moved; set until it is observed running at its target.';
comment on column mooring.placement.handover is
  'null: the replica. arriving: its successor, which takes over when it runs. '
  'leaving: its predecessor, which stops.';
--! EndIncluded views/placement.sql
--! Included views/node_status.sql
-- health asks what eligibility() asks of a node: the same liveness and the same disk floor.
create or replace view mooring.node_status as
  select n.name as node,
      case
        when h.beat_at is null then 'UNKNOWN'
        when mooring_internal.node_is_held(n.held_until) then 'HELD'
        when h.left_at is not null then 'LEFT'
        when not mooring_internal.node_is_live(h) then 'STALE'
        when h.disk_free_pct < s.disk_free_min_pct then 'UNHEALTHY'
        when not n.enabled then 'DISABLED'
        when n.draining_since is not null or h.leaving then 'DRAINING'
        when h.disk_free_pct < s.disk_free_min_pct + 10 then 'LOW_DISK'
        else 'HEALTHY'
      end as health,
      n.enabled,
      n.draining_since is not null or h.leaving as draining,
      clock_timestamp() - h.beat_at as beat_age,
      coalesce(c.assignments, 0) as assignments,
      case when mooring_internal.node_is_live(h) then coalesce(c.running, 0) else 0 end as running,
      h.cpu_pct,
      h.memory_mb,
      h.disk_free_pct,
      n.weight,
      n.labels,
      h.session,
      n.max_assignments,
      n.trusts,
      n.drivers,
      n.version,
      h.disk_free_bytes,
      h.sampled_at,
      n.agent_base_url,
      n.gateway_base_url,
      n.id as node_id,
      n.containment,
      h.left_at,
      n.held_until
    from mooring.node n
   cross join mooring.setting s
    left join mooring.heartbeat h on h.node_id = n.id
    left join (
      select a.node_id,
          count(*)::int as assignments,
          (count(*) filter (where r.state = 'running'))::int as running
        from mooring.assignment a
        left join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       where a.node_id is not null
       group by a.node_id) c on c.node_id = n.id;
comment on view mooring.node_status is 'The fleet, one row per node, with a health label.';
comment on column mooring.node_status.node is 'Name.';
comment on column mooring.node_status.health is
  'UNKNOWN: it has never beaten. HELD: its work waits for it, see hold_node(). '
  'LEFT: its agent was stopped in order. '
  'STALE: its lease has ended. UNHEALTHY: disk below setting.disk_free_min_pct. DISABLED. '
  'DRAINING: draining, or its agent is stopping. LOW_DISK: it takes new work, and its disk is '
  'within 10 points of the floor. HEALTHY.';
comment on column mooring.node_status.enabled is 'false: no new work.';
comment on column mooring.node_status.draining is 'true: its work is moved away.';
comment on column mooring.node_status.beat_age is
  'Time since the last beat, by the database clock.';
comment on column mooring.node_status.assignments is 'Assignments it owns, daemons included.';
comment on column mooring.node_status.running is
  'Of these, observed running. 0 where the node is not live, because nothing is known of it.';
comment on column mooring.node_status.cpu_pct is
  'Percent of the whole machine used by the agent and its processes.';
comment on column mooring.node_status.memory_mb is
  'Resident memory of the agent and its processes, in MiB.';
comment on column mooring.node_status.disk_free_pct is 'Free share of its disk, in percent.';
comment on column mooring.node_status.weight is 'Capacity relative to 100.';
comment on column mooring.node_status.labels is 'Labels.';
comment on column mooring.node_status.session is
  'Session of the agent that holds the name; null: none.';
comment on column mooring.node_status.max_assignments is
  'Limit of assignments; daemons are not counted.';
comment on column mooring.node_status.trusts is 'Pattern of trusted packages.';
comment on column mooring.node_status.drivers is 'Kinds of work it runs.';
comment on column mooring.node_status.version is 'Version of the agent.';
comment on column mooring.node_status.disk_free_bytes is 'Free bytes of its disk.';
comment on column mooring.node_status.sampled_at is
  'When cpu, memory and disk were measured.';
comment on column mooring.node_status.agent_base_url is 'Where the agent is reached.';
comment on column mooring.node_status.gateway_base_url is 'Where its workloads are reached.';
comment on column mooring.node_status.node_id is 'Id of the node.';
comment on column mooring.node_status.containment is
  'How surely its workloads die when agent and warden die. pid-namespace: with all they started. '
  'pdeathsig: except what left its process group. process-group: the same, by a timer alone.';
comment on column mooring.node_status.left_at is
  'Since when its agent is gone, where that was stopped in order.';
comment on column mooring.node_status.held_until is
  'Until then its work waits for it, unless its agent starts before.';
--! EndIncluded views/node_status.sql
--! Included views/unplaced.sql
create or replace view mooring.unplaced as
  select a.id as assignment_id,
      a.deployment_id,
      d.package_name,
      a.waiting_since,
      coalesce(
        k.reason,
        nullif(w.reason, soon.reason),
        case
          when a.last_node_id is not null then (
            select format(
                'all nodes were away; '
                'until %s is back it waits for setting.return_wait (%s) from the first that came',
                string_agg(n.name, ', ' order by n.name),
                s.return_wait)
              from mooring.node n
             cross join mooring.setting s
             where n.id = any ((select mooring_internal.awaited_nodes())::int[])
             group by s.return_wait)
        end,
        soon.reason) as reason,
      d.name,
      a.ordinal,
      r.last_error
    from mooring.assignment a
   cross join (values ('it is placed by the next round')) soon (reason)
    left join mooring.deployment d on d.id = a.deployment_id
    left join mooring_internal.pending_reasons() w on w.signature = a.signature
    left join mooring_internal.waiting_for_namesakes() k on k.deployment_id = a.deployment_id
    left join mooring.run r on r.assignment_id = a.id
   where a.node_id is null and a.wanted = 'run';
comment on view mooring.unplaced is 'What is pending, and why.';
comment on column mooring.unplaced.assignment_id is 'The assignment.';
comment on column mooring.unplaced.deployment_id is 'Its deployment.';
comment on column mooring.unplaced.package_name is 'npm package.';
comment on column mooring.unplaced.waiting_since is 'Pending since.';
comment on column mooring.unplaced.reason is
  'The first rule that leaves no node, with the way out.';
comment on column mooring.unplaced.name is 'Name of the deployment.';
comment on column mooring.unplaced.ordinal is 'Which replica.';
comment on column mooring.unplaced.last_error is
  'What went wrong when it last ran or was refused.';
--! EndIncluded views/unplaced.sql
--! Included views/failing.sql
create or replace view mooring.failing as
  select p.assignment_id,
      p.deployment_id,
      p.name,
      p.ordinal,
      p.package_name,
      p.node,
      p.run_state,
      p.restarts,
      coalesce(p.last_error, p.run_state) as reason,
      p.last_error_at,
      p.next_start_at
    from mooring.placement p
   where p.wanted = 'run'
     and p.run_state in ('backoff', 'failed', 'refused');
comment on view mooring.failing is
  'What has a node and does not run there, and why. What has none is in unplaced.';
comment on column mooring.failing.assignment_id is 'The assignment.';
comment on column mooring.failing.deployment_id is 'Its deployment.';
comment on column mooring.failing.name is 'Name of the deployment.';
comment on column mooring.failing.ordinal is 'Which replica; null for a daemon.';
comment on column mooring.failing.package_name is 'npm package.';
comment on column mooring.failing.node is 'Its owner.';
comment on column mooring.failing.run_state is
  'backoff: it ended and is started again. failed: it did not start. refused: its agent will not.';
comment on column mooring.failing.restarts is 'Restarts under this epoch.';
comment on column mooring.failing.reason is 'The last error.';
comment on column mooring.failing.last_error_at is 'When the last error was reported.';
comment on column mooring.failing.next_start_at is 'When the agent starts it again.';
--! EndIncluded views/failing.sql
--! Included views/fleet.sql
create or replace view mooring.fleet as
  select n.nodes,
      n.healthy,
      d.deployments,
      a.assignments,
      a.assigned,
      a.running,
      a.waiting,
      a.failing,
      mooring.schema_version() as version,
      mooring_internal.hold_reason() as hold,
      case when mooring_internal.hold_reason() is not null then p.hold_until end as hold_until,
      mooring_internal.placement_lock_holder() as placement_lock_holder,
      (
        select count(*)::int
          from mooring_internal.worker w
         where mooring_internal.worker_is_alive(w)) as workers,
      clock_timestamp() - p.pulse_at as pulse_age,
      (
        select r.reason
          from mooring_internal.reap_pause r
         where r.resumed_at is null) as reap_paused
    from (
      select
          count(*)::int as nodes,
          (count(*) filter (where s.health = 'HEALTHY'))::int as healthy
        from mooring.node_status s) n
   cross join (
     select count(*)::int as deployments
       from mooring.deployment) d
   cross join (
     select
         count(*)::int as assignments,
         (count(*) filter (where a.node_id is not null))::int as assigned,
         (count(*) filter (
           where r.state = 'running' and mooring_internal.node_is_live(h)))::int as running,
         (count(*) filter (where a.node_id is null and a.wanted = 'run'))::int as waiting,
         (count(*) filter (
           where a.node_id is not null
             and a.wanted = 'run'
             and (
               r.state = 'refused'
               or r.state in ('backoff', 'failed') and mooring_internal.node_is_live(h))))::int
           as failing
       from mooring.assignment a
       left join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       left join mooring.heartbeat h on h.node_id = a.node_id) a
   cross join mooring_internal.pulse p;
comment on view mooring.fleet is 'The whole fleet in one row.';
comment on column mooring.fleet.nodes is 'Registered nodes.';
comment on column mooring.fleet.healthy is 'Nodes whose health is HEALTHY; see node_status.';
comment on column mooring.fleet.deployments is 'Rows of deployment.';
comment on column mooring.fleet.assignments is
  'Instances: pending ones and daemons included, and both instances of what is being handed over.';
comment on column mooring.fleet.assigned is 'Assignments that a node owns.';
comment on column mooring.fleet.running is
  'Assignments that are observed running, on nodes that are live.';
comment on column mooring.fleet.waiting is 'Assignments that are pending and wanted; see unplaced.';
comment on column mooring.fleet.failing is
  'Assignments that have a node and do not run there; see failing.';
comment on column mooring.fleet.version is 'Schema version.';
comment on column mooring.fleet.hold is
  'Why nothing is reaped, claimed or started at the moment; null: no hold.';
comment on column mooring.fleet.hold_until is 'When the hold ends.';
comment on column mooring.fleet.placement_lock_holder is
  'Pid that holds the placement lock. The same pid for long is a forgotten transaction.';
comment on column mooring.fleet.workers is
  'Worker processes that ticked lately. With none the agents run the rounds.';
comment on column mooring.fleet.pulse_age is 'Time since the last tick of any worker or agent.';
comment on column mooring.fleet.reap_paused is
  'Why nothing is taken from silent nodes: too many are silent (setting.reap_pause_share). '
  'null: not paused. select mooring.resume_reaping() reaps in spite of it.';
--! EndIncluded views/fleet.sql
--! Included views/drain_progress.sql
-- What is blocked comes from drain_targets(), on which the drain itself acts.
create or replace view mooring.drain_progress as
  select n.name as node,
      greatest(n.drain_total, o.owned) as total,
      o.owned as left,
      m.moving,
      coalesce(b.blocked, 0) as blocked,
      case
        when o.owned = 0 then null
        when not w.live then
          'its agent is silent: '
          'what it owns is placed elsewhere when the lease and the margin have passed'
        when w.hold is not null then 'hold after an outage: ' || w.hold
        else b.why
      end as why,
      n.draining_since as since,
      case
        when o.owned < n.drain_total and n.drained_at is null
          then (clock_timestamp() - n.draining_since) * o.owned / (n.drain_total - o.owned)
      end as eta,
      o.owned = 0 as done,
      t.name as target,
      coalesce(n.drain_max_moves, s.drain_max_moves) as max_moves,
      n.drain_deadline_at as deadline_at,
      n.drained_at
    from mooring.node n
   cross join mooring.setting s
    left join mooring.heartbeat h on h.node_id = n.id
    left join mooring.node t on t.id = n.drain_to
   cross join lateral (
     select
         coalesce(mooring_internal.node_is_live(h), false) as live,
         mooring_internal.hold_reason() as hold) w
   cross join lateral (
     select count(*)::int as owned
       from mooring.assignment a
      where a.node_id = n.id and a.ordinal is not null) o
   cross join lateral (
     select count(*)::int as moving
       from mooring_internal.moves_under_way() m
      where m.from_node = n.id) m
   cross join lateral (
     select
         sum(cardinality(k.ids))::int as blocked,
         string_agg(
           format(
             'assignment %s%s: %s',
             k.ids[1],
             case
               when cardinality(k.ids) > 1 then format(' and %s more', cardinality(k.ids) - 1)
             end,
             k.why),
           '; ' order by k.ids[1]) as why
       from mooring_internal.drain_obstacles(n.id) k
      where w.live and w.hold is null) b
   where n.draining_since is not null;
comment on view mooring.drain_progress is
  'Each draining node: what is left on it, what is being moved, what has nowhere to go and why.';
comment on column mooring.drain_progress.node is 'The node.';
comment on column mooring.drain_progress.total is
  'Assignments it owned when the drain began; daemons are not counted.';
comment on column mooring.drain_progress.left is
  'Assignments it owns now. Write it "left": it is a keyword.';
comment on column mooring.drain_progress.moving is
  'Assignments that are stopping here, pending, or not yet observed running elsewhere.';
comment on column mooring.drain_progress.blocked is
  'Of those left: running on, because no other node can take them. 0 in a hold and of a silent '
  'node, because neither is judged.';
comment on column mooring.drain_progress.why is 'What is in the way, with the way out.';
comment on column mooring.drain_progress.since is 'When the drain began.';
comment on column mooring.drain_progress.eta is 'How long the rest takes at the speed so far.';
comment on column mooring.drain_progress.done is
  'true: nothing is left; each of its processes is gone, or never existed.';
comment on column mooring.drain_progress.target is
  'The node to which everything goes; null: wherever each may run.';
comment on column mooring.drain_progress.max_moves is
  'How many assignments are moved at the same time.';
comment on column mooring.drain_progress.deadline_at is
  'When everything left is stopped at once; null: never.';
comment on column mooring.drain_progress.drained_at is
  'When a step of the drain first found nothing left.';
--! EndIncluded views/drain_progress.sql
--! Included views/help.sql
-- help: what there is to type, by topic. test/sql/help.test.ts compares it with the catalog.
create or replace view mooring.help as
  select h.topic, h.verb, h.what_for, h.example
    from (values
    (1, 'deploy', 'deployment',
      'What shall run: INSERT starts it on some node, UPDATE changes it, DELETE ends it.',
      'insert into mooring.deployment (name, package_name, replicas) '
      'values (''web'', ''http-server'', 3);'),
    (2, 'deploy', 'simulate_insert',
      'Where a deployment would run if it were inserted now, or why nowhere.',
      'select * from mooring.simulate_insert(''{"package_name": "http-server", "replicas": 3}'');'),
    (3, 'deploy', 'restart',
      'Stops an assignment and starts it again on its node.',
      'select * from mooring.restart(1);'),
    (4, 'look', 'fleet',
      'The whole fleet in one row.',
      'select * from mooring.fleet;'),
    (5, 'look', 'placement',
      'What runs where: one row for each assignment with its owner and the last observation.',
      'select * from mooring.placement;'),
    (6, 'look', 'unplaced',
      'What is pending, and why.',
      'select * from mooring.unplaced;'),
    (7, 'look', 'failing',
      'What has a node and does not run there, and why.',
      'select name, node, reason from mooring.failing;'),
    (8, 'look', 'node_status',
      'One row for each node, with a health label.',
      'select node, health, assignments from mooring.node_status;'),
    (9, 'look', 'placements_of',
      'What a node owns, a page at a time.',
      'select * from mooring.placements_of(''host-a'');'),
    (10, 'look', 'doctor',
      'What is wrong with this installation, or soon will be, and the next thing to type.',
      'select * from mooring.doctor() where level <> ''ok'';'),
    (11, 'look', 'explain',
      'Why a deployment runs where it runs, or nowhere: one row for each node.',
      'select node, verdict from mooring.explain(1);'),
    (12, 'look', 'help',
      'This list.',
      'select verb, what_for, example from mooring.help where topic = ''nodes'';'),
    (13, 'look', 'schema_version',
      'Number of the last migration.',
      'select mooring.schema_version();'),
    (14, 'look', 'server_identity',
      'Which server answers: its cluster, its timeline, whether it is a standby.',
      'select * from mooring.server_identity();'),
    (15, 'logs', 'show_log',
      'The last lines of a log, from the host it is on.',
      'call mooring.show_log(1);'),
    (16, 'logs', 'request_log',
      'Requests a slice of a log; commit, then read_log() returns it a moment later.',
      'select mooring.request_log(1, tail_lines => 50);'),
    (17, 'logs', 'read_log',
      'The requested slice, once; no row while it is not there.',
      'select mooring.log_text(r.data) '
      'from mooring.read_log(''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'') r;'),
    (18, 'logs', 'log_text',
      'A slice of a log as text; what is not UTF-8 is shown with escapes.',
      'select mooring.log_text(''\x6869'');'),
    (19, 'history', 'last_events',
      'The last events, oldest first.',
      'select at, kind, node, reason from mooring.last_events(20);'),
    (20, 'history', 'event',
      'Append-only history: what happened, by which login, when and why.',
      'select at, reason from mooring.event where kind = ''reaped'' order by id desc limit 10;'),
    (21, 'history', 'history',
      'Which node owned an assignment from when until when, and why.',
      'select * from mooring.history(1);'),
    (22, 'history', 'placement_at',
      'Which node owned what at an instant.',
      'select * from mooring.placement_at(now() - interval ''1 second'');'),
    (23, 'history', 'ownership',
      'Every epoch of every assignment: its owner, from when on and why.',
      'select * from mooring.ownership where assignment_id = 1 order by epoch;'),
    (24, 'nodes', 'node',
      'A host that runs an agent: its weight, labels and limits.',
      'update mooring.node set weight = 200 where name = ''host-a'';'),
    (25, 'nodes', 'upsert_node',
      'Adds a node, or changes what is given of it.',
      'select * from mooring.upsert_node(''host-a'', labels => ''{"zone": "b"}'');'),
    (26, 'nodes', 'set_node_enabled',
      'Opens a node for new work, or closes it; what runs there stays.',
      'select * from mooring.set_node_enabled(''host-a'', false);'),
    (27, 'nodes', 'forget_node',
      'Deletes a node that is not live and owns nothing.',
      'select mooring.forget_node(''host-a'');'),
    (28, 'nodes', 'heartbeat',
      'The last beat of each node, a table. Agents write it by the verb of the same name.',
      'select node, beat_at, lease_ttl from mooring.heartbeat;'),
    (29, 'nodes', 'simulate_node_loss',
      'Where each assignment of a node would go if the node were lost.',
      'select * from mooring.simulate_node_loss(''host-a'');'),
    (30, 'nodes', 'plan_placement',
      'The same by the id of the node, as claim() would choose.',
      'select * from mooring.plan_placement(1);'),
    (31, 'moves', 'drain_node',
      'Closes a node and moves away what it runs, a few at a time.',
      'select * from mooring.drain_node(''host-a'', deadline => ''10 min'');'),
    (32, 'moves', 'drain_progress',
      'Each draining node: what is left, what is on its way, what has nowhere to go and why.',
      'select * from mooring.drain_progress;'),
    (33, 'moves', 'undrain_node',
      'Ends the drain of a node and opens it for new work.',
      'select * from mooring.undrain_node(''host-a'');'),
    (33, 'moves', 'hold_node',
      'Lets the work of a node wait while its host reboots, for so long at most.',
      'select * from mooring.hold_node(''host-a'', ''15 min'');'),
    (34, 'moves', 'simulate_drain',
      'Where drain_node() would send each assignment of a node.',
      'select * from mooring.simulate_drain(''host-a'');'),
    (35, 'moves', 'reassign',
      'Moves one assignment to a node by name.',
      'select * from mooring.reassign(1, ''host-b'');'),
    (36, 'moves', 'rebalance',
      'Evens out the load by a few moves; only shows them unless dry_run is false.',
      'select * from mooring.rebalance(max_moves => 5);'),
    (37, 'policies', 'policy',
      'How nodes are compared; deployment.policy and setting.default_policy name one.',
      'select name, description from mooring.policy;'),
    (38, 'policies', 'policy_deployment_count',
      'Cost function of policy deployment_count: fewest assigned first.',
      'update mooring.deployment set policy = ''deployment_count'' where id = 1;'),
    (39, 'policies', 'policy_resource_usage',
      'Cost function of policy resource_usage: least cpu and memory used first.',
      'update mooring.deployment set policy = ''resource_usage'' where id = 1;'),
    (40, 'policies', 'policy_disk_free',
      'Cost function of policy disk_free: most free disk first.',
      'update mooring.deployment set policy = ''disk_free'' where id = 1;'),
    (41, 'policies', 'policy_hash',
      'Cost function of policy hash: each assignment where its hash with the node says.',
      'update mooring.deployment set policy = ''hash'' where id = 1;'),
    (42, 'operate', 'setting',
      'One row of knobs for the whole fleet.',
      'update mooring.setting set lease_ttl = ''30 s'';'),
    (43, 'operate', 'resume_reaping',
      'Takes the work of silent nodes although they are many; see fleet.reap_paused.',
      'select mooring.resume_reaping();'),
    (44, 'operate', 'set_up_roles',
      'Makes the four group roles and gives them their rights.',
      'select * from mooring.set_up_roles();'),
    (45, 'operate', 'assignment',
      'One instance of a deployment, the node that owns it, and what the owner shall do.',
      'select id, node_id, epoch, wanted from mooring.assignment where deployment_id = 1;'),
    (46, 'operate', 'run',
      'What an agent last observed of an assignment.',
      'select state, restarts, last_error from mooring.run where assignment_id = 1;'),
    (47, 'workload', 'assert_owner',
      'Raises MR005 unless the caller still owns its assignment; '
      'it keeps ownership until the transaction ends.',
      'select mooring.assert_owner(1, 1);'),
    (48, 'worker', 'tick',
      'Beat of a worker; it starts the rounds that are due.',
      'select * from mooring.tick(''by hand'');'),
    (49, 'worker', 'claim',
      'Assigns pending work to nodes.',
      'select * from mooring.claim();'),
    (50, 'worker', 'reap',
      'Takes assignments from nodes whose lease has ended.',
      'select * from mooring.reap();'),
    (51, 'worker', 'evict',
      'Stops what is no longer permitted where it runs, and mends what deployments lack.',
      'select * from mooring.evict();'),
    (52, 'worker', 'prune_events',
      'Deletes events and past ownerships older than setting.event_retention.',
      'select mooring.prune_events();'),
    (53, 'agent', 'register_node',
      'Binds the name of a node to a new session of its agent.',
      'select * '
      'from mooring.register_node(''host-a'', gen_random_uuid(), trusts => ''^http-server@'');'),
    (54, 'agent', 'heartbeat',
      'Renews the lease of a node, and answers with the digest of what it owns.',
      'select * from mooring.heartbeat(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'');'),
    (55, 'agent', 'assignments_of',
      'Everything a node owns, and what to run.',
      'select * from mooring.assignments_of(''host-a'');'),
    (56, 'agent', 'report',
      'Stores what an agent observed of its assignments.',
      'select * '
      'from mooring.report(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'', ''[]'');'),
    (57, 'agent', 'begin_leave',
      'Announces that the agent is stopping: no new work for its node.',
      'select mooring.begin_leave(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'');'),
    (58, 'agent', 'leave',
      'Ends a session after its processes are gone, and releases all it owns.',
      'select mooring.leave(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'');'),
    (59, 'agent', 'log_requests_of',
      'The slices of logs that are requested from a node.',
      'select * '
      'from mooring.log_requests_of(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'');'),
    (60, 'agent', 'answer_log',
      'Answers a request for a slice of a log.',
      'select mooring.answer_log(''host-a'', ''2f1c1bd0-6a0e-4a3c-9d0e-000000000000'', '
      'gen_random_uuid(), 0, ''x'', null, false, 1, null);')
    ) h (nr, topic, verb, what_for, example)
   order by h.nr;
comment on view mooring.help is
  'What there is to type: every verb, view and table of schema mooring, what it is for, '
  'and an example.';
comment on column mooring.help.topic is
  'deploy, look, logs, history, nodes, moves, policies, operate; '
  'and what programs call: workload, worker, agent.';
comment on column mooring.help.verb is 'Name of the function, view or table in schema mooring.';
comment on column mooring.help.what_for is 'What it is for, in a sentence.';
comment on column mooring.help.example is 'A statement to begin with.';
--! EndIncluded views/help.sql
--! Included functions/explain/placements_of.sql
create or replace function mooring.placements_of(
  node text,
  max_rows int default 200,
  skip int default 0
) returns setof mooring.placement
  language plpgsql stable security definer rows 200
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owner mooring.node := mooring_internal.node_named(placements_of.node);
begin
  return query
    select p.*
      from mooring.placement p
     where p.node = owner.name
     order by p.assignment_id
    offset greatest(coalesce(placements_of.skip, 0), 0)
     limit least(greatest(coalesce(placements_of.max_rows, 200), 0), 2000);
end;
$$;
comment on function mooring.placements_of(text, int, int) is
  'What a node owns, a page at a time: at most max_rows (up to 2000) rows, after the first skip.';
--! EndIncluded functions/explain/placements_of.sql

-- doctor: what is wrong, or soon will be; a theme is a file
--! Included functions/doctor/doctor_rounds.sql
-- Checks that rounds run, and that nothing keeps work from being placed and reaped.
create or replace function mooring_internal.doctor_rounds()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  hold text := mooring_internal.hold_reason();
  -- a transaction that holds the placement lock for longer hangs
  lock_patience interval := greatest(
    2 * (select s.placement_lock_timeout from mooring.setting s), interval '30 s');
  has_agents boolean := exists (
    select from mooring.heartbeat h
     where h.session is not null);
  pulse mooring_internal.pulse;
  pause mooring_internal.reap_pause;
  alive text[];
  late text[];
  oldest interval;
  broken text[];
  holder record;
  failed record;
begin
  select p.* into pulse from mooring_internal.pulse p;
  return query
    select 'schema',
        'ok',
        format(
          'version %s on PostgreSQL %s, database %s%s',
          mooring.schema_version(),
          split_part(current_setting('server_version'), ' ', 1),
          current_database(),
          case
            when pg_is_in_recovery()
              then ': a standby, for reading only; verbs run on the primary'
            else ''
          end),
        null::text;
  return query
    select 'hold',
        case when hold is null then 'ok' else 'warning' end,
        case
          when hold is null then 'none'
          else format(
            'nothing is reaped, placed or newly started until %s: %s',
            coalesce(
              to_char(pulse.hold_until, 'HH24:MI:SS'),
              'a worker or agent ticks, and one lease more'),
            hold)
        end,
        case
          when hold is not null
            then 'wait for it: it ends by itself; select hold, hold_until from mooring.fleet;'
        end;
  select p.* into pause from mooring_internal.reap_pause p;
  return query
    select 'reaping',
        case
          when pause.paused_at is null then 'ok'
          when pause.resumed_at is null then 'problem'
          else 'warning'
        end,
        case
          when pause.paused_at is null then 'not paused'
          when pause.resumed_at is null then format(
            'paused since %s%s: %s; their work is not reaped',
            to_char(pause.paused_at, 'HH24:MI:SS'),
            (
              select ' and until '
                  || to_char(pause.paused_at + s.reap_pause_timeout, 'HH24:MI:SS') || ' at most'
                from mooring.setting s),
            pause.reason)
          when pause.resumed_by is null
            then format('goes on after setting.reap_pause_timeout although %s', pause.reason)
          else format('goes on by order of %s although %s', pause.resumed_by, pause.reason)
        end,
        case
          when pause.paused_at is null then null
          when pause.resumed_at is null
            then 'bring the nodes or their network back; '
              'if the nodes are dead: select mooring.resume_reaping();'
          else 'it ends by itself when enough nodes are back'
        end;
  select array_agg(w.id order by w.id) into alive
    from mooring_internal.worker w
   where mooring_internal.worker_is_alive(w);
  return query
    select 'workers',
        case when alive is null then 'warning' else 'ok' end,
        coalesce(
          cardinality(alive) || ' alive: ' || mooring_internal.abbreviate_list(alive),
          'none is alive' || case when has_agents then ': the agents run the rounds' else '' end),
        case when alive is null then 'mooring worker' end;
  select array_agg(r.name order by r.name),
      max(case when isfinite(r.done_at) then asked_at - r.done_at end)
    into late, oldest
    from mooring_internal.round r
   where r.done_at < asked_at
     - greatest(5 * mooring_internal.round_interval(r.name), interval '15 s');
  select array_agg(format('%s fails: %s', r.name, f.error) order by r.name <> 'place', r.name)
    into broken
    from mooring_internal.round r
   cross join lateral (select mooring_internal.round_error(r.name) as error) f
   where f.error is not null;
  return query
    select 'rounds',
        case
          when broken is not null then 'problem'
          when late is null or hold is not null or pg_is_in_recovery() then 'ok'
          when has_agents and late && '{reap,place}' then 'problem'
          else 'warning'
        end,
        case
          when broken is not null then array_to_string(broken, '; ')
          when late is null then 'all in time'
          when hold is not null then 'late because of the outage before the hold'
          else format(
            'overdue: %s%s',
            mooring_internal.abbreviate_list(late, 4),
            coalesce(
              ', last done ' || mooring_internal.format_duration(oldest) || ' ago',
              ', never done'))
        end,
        case
          when broken is not null
            then 'mend what it says; the round is tried again by itself'
          when late is not null and hold is null
            then 'mooring worker; what made a round fail: '
              'select at, reason from mooring.last_events(1000) where kind = ''round_failed'';'
        end;
  return query select * from mooring_internal.doctor_jobs(alive is not null);
  select l.pid, s.xact_start, s.state, s.application_name into holder
    from (select mooring_internal.placement_lock_holder() as pid) l
    left join pg_stat_activity s on s.pid = l.pid;
  return query
    select 'placement lock',
        case
          when holder.xact_start < asked_at - lock_patience
            then 'problem'
          else 'ok'
        end,
        case
          when holder.pid is null then 'free'
          else format(
            'held by pid %s (%s)%s',
            holder.pid,
            holder.application_name,
            coalesce(
              ' for ' || mooring_internal.format_duration(asked_at - holder.xact_start),
              '; since when is not visible to the owner of the schema'))
        end,
        case
          when holder.xact_start < asked_at - lock_patience
            then format('select pg_terminate_backend(%s);', holder.pid)
        end;
  select count(*) as times,
      (array_agg(e.kind || ': ' || e.reason order by e.id desc))[1] as latest
    into failed
    from (
      select e.*
        from mooring.event e
       order by e.id desc
       limit 2000) e
   where e.kind in ('round_failed', 'claim_failed', 'reap_blocked')
     and e.at > asked_at - interval '10 min';
  return query
    select 'failures',
        case when failed.times = 0 then 'ok' else 'warning' end,
        case
          when failed.times = 0 then 'no round, policy or reap failed in the last 10 min'
          else format(
            '%s in the last 10 min; the last: %s', failed.times, left(failed.latest, 300))
        end,
        case
          when failed.times > 0
            then 'select at, kind, assignment_id, reason from mooring.last_events(2000) '
              'where kind in (''round_failed'', ''claim_failed'', ''reap_blocked'');'
        end;
end;
$$;
comment on function mooring_internal.doctor_rounds() is
  'Theme of doctor(): hold, pause, workers, rounds, jobs, placement lock, failures.';
--! EndIncluded functions/doctor/doctor_rounds.sql
--! Included functions/doctor/doctor_jobs.sql
-- Jobs in mooring_jobs that stand still. Those of a dead worker stay locked for four hours, and
-- tick() frees only those of workers that have ticked.
create or replace function mooring_internal.doctor_jobs(has_worker boolean)
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 2
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  grace interval := 3 * mooring_internal.round_interval('reap') + interval '3 s';
  locked record;
  waiting record;
begin
  select count(*) as jobs,
      array_agg(distinct j.locked_by) as lockers,
      max(asked_at - j.locked_at) as oldest
    into locked
    from mooring_jobs.jobs j
   where j.locked_at < asked_at - grace
     and j.task_identifier in ('place', 'reap', 'evict', 'prune')
     and not exists (
       select from mooring_internal.worker w
        where mooring_internal.worker_is_alive(w) and j.locked_by = any (w.pool_ids));
  return query
    select 'job locks',
        case when locked.jobs = 0 then 'ok' else 'problem' end,
        case
          when locked.jobs = 0 then 'none of a dead worker'
          else format(
            '%s jobs are locked by workers that do not tick (%s), the oldest for %s',
            locked.jobs,
            mooring_internal.abbreviate_list(locked.lockers),
            mooring_internal.format_duration(locked.oldest))
        end,
        case
          when locked.jobs > 0
            then format('select mooring_jobs.force_unlock_workers(%L);', locked.lockers)
        end;
  select count(*) as jobs, max(asked_at - j.run_at) as oldest into waiting
    from mooring_jobs.jobs j
   where j.run_at < asked_at - interval '30 s'
     and j.locked_at is null
     and j.attempts < j.max_attempts
     and j.task_identifier in ('place', 'reap', 'evict', 'prune');
  return query
    select 'job queue',
        case when waiting.jobs = 0 or not has_worker then 'ok' else 'warning' end,
        case
          when waiting.jobs = 0 then 'no job waits'
          else format(
            '%s jobs are due for up to %s%s',
            waiting.jobs,
            mooring_internal.format_duration(waiting.oldest),
            case
              when has_worker then ''
              else ', and wait for a worker; the rounds run without them'
            end)
        end,
        case
          when waiting.jobs > 0 and has_worker
            then 'restart the workers; their log says why they run no job'
        end;
end;
$$;
comment on function mooring_internal.doctor_jobs(boolean) is
  'Theme of doctor(): jobs in mooring_jobs that no worker will run. has_worker: whether a '
  'worker is alive.';
--! EndIncluded functions/doctor/doctor_jobs.sql
--! Included functions/doctor/doctor_nodes.sql
-- Checks that the hosts are live, of one version, quick enough for their leases, and sure to stop
-- what they run.
create or replace function mooring_internal.doctor_nodes()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  setting mooring.setting;
  n record;
begin
  select s.* into setting from mooring.setting s;
  select count(*) as nodes,
      count(*) filter (where l.live) as live,
      array_agg(
        format(
          '%s (%s)',
          l.name,
          case
            when l.beat_at is null then 'never registered'
            else 'silent for ' || mooring_internal.format_duration(asked_at - l.beat_at)
          end)
        order by l.name) filter (where not l.live and l.left_at is null and not l.held) as silent,
      (array_agg(l.name order by l.name)
        filter (where not l.live and l.left_at is null and not l.held))[1] as first_silent,
      array_agg(
        format(
          '%s (%s ago)', l.name, mooring_internal.format_duration(asked_at - l.left_at))
        order by l.name) filter (where l.left_at is not null and not l.held) as left_in_order,
      (array_agg(l.name order by l.name)
        filter (where l.left_at is not null and not l.held))[1] as first_left,
      array_agg(
        format('%s (%s %%)', l.name, round(l.disk_free_pct::numeric, 1))
        order by l.name)
        filter (where l.live and l.disk_free_pct < setting.disk_free_min_pct) as full,
      array_agg(
        format(
          '%s (%s to go)',
          l.name,
          mooring_internal.format_duration(l.held_until - asked_at))
        order by l.name) filter (where l.held) as held,
      array_agg(l.name order by l.name) filter (where l.live and l.runs_nothing) as idle
    into n
    from (
      select d.name, h.beat_at, h.left_at, h.disk_free_pct, d.held_until,
          mooring_internal.node_is_held(d.held_until) as held,
          d.trusts is null and not d.drivers @> '{exec}' as runs_nothing,
          coalesce(mooring_internal.node_is_live(h), false) as live
        from mooring.node d
        left join mooring.heartbeat h on h.node_id = d.id) l;
  return query
    select 'nodes',
        case
          when n.nodes = 0 then 'warning'
          when n.live = 0 then 'problem'
          when n.silent is not null then 'warning'
          else 'ok'
        end,
        case
          when n.nodes = 0 then 'none has registered'
          else format('%s of %s live', n.live, n.nodes)
            || coalesce('; not live: ' || mooring_internal.abbreviate_list(n.silent, 5), '')
            || coalesce('; held: ' || mooring_internal.abbreviate_list(n.held, 5), '')
            || coalesce(
              '; left in order: ' || mooring_internal.abbreviate_list(n.left_in_order, 5), '')
        end,
        case
          when n.nodes = 0 then 'mooring agent --name host-a --trust ''^your-package@'''
          when n.silent is not null then format(
            'start its agent: %s; gone for good: select mooring.forget_node(%L);',
            mooring_internal.agent_command(n.first_silent), n.first_silent)
          when n.live = 0
            then 'start its agent: ' || mooring_internal.agent_command(n.first_left)
        end;
  return query
    select 'disks',
        case when n.full is null then 'ok' else 'warning' end,
        case
          when n.full is not null then format(
            'below %s %% free, so without new work: %s',
            setting.disk_free_min_pct,
            mooring_internal.abbreviate_list(n.full, 5))
          else format('no live node is below %s %% free', setting.disk_free_min_pct)
        end,
        case
          when n.full is not null
            then 'free space there, or lower the floor: '
              'update mooring.setting set disk_free_min_pct = ...;'
        end;
  return query
    select 'trust',
        case when n.idle is null then 'ok' else 'warning' end,
        case
          when n.idle is null then 'each live node trusts packages or runs commands'
          else format(
            'they trust no package and run no command, so nothing can run there: %s',
            mooring_internal.abbreviate_list(n.idle, 5))
        end,
        case
          when n.idle is not null then format(
            'start its agent with what it may run: '
            'mooring agent --handover --name %s --trust ''^your-package@''',
            n.idle[1])
        end;
  select count(*) as nodes,
      array_agg(
        concat_ws(
          ', ',
          d.name || case
            when h.failing is not null then format(
              ' (%s fail there)',
              mooring_internal.abbreviate_list(array(
                select coalesce(w.name, w.id::text)
                  from mooring.deployment w
                 where w.id = any (h.failing)
                 order by w.id), 3))
            else ''
          end,
          case when h.losses > 1 then format('lost %s times', h.losses) end)
        order by d.name) as troubled
    into n
    from mooring_internal.shares_of_troubled_nodes() h
    join mooring.node d on d.id = h.node_id
   where h.failing is not null or h.losses > 1;
  return query
    select 'trouble',
        case when n.nodes = 0 then 'ok' else 'warning' end,
        case
          when n.nodes = 0 then 'no node is given less work because of trouble'
          else 'given less new work: ' || mooring_internal.abbreviate_list(n.troubled, 5)
        end,
        case
          when n.nodes > 0
            then 'look at the host and at last_error in mooring.failing; '
              'to keep work off it: select mooring.drain_node(...);'
        end;
  select count(distinct v.version) as versions,
      string_agg(
        format('%s: %s %s', v.version, v.kind, mooring_internal.abbreviate_list(v.names)),
        '; ' order by v.version desc, v.kind) as list
    into n
    from (
      select coalesce(p.version, 'unknown') as version,
          p.kind,
          array_agg(p.name order by p.name) as names
        from (
          select d.version, 'agent of' as kind, d.name
            from mooring.node d
            join mooring.heartbeat h on h.node_id = d.id
           where h.session is not null
          union all
          -- the name of a worker ends with its version
          select nullif(split_part(k.id, '@', 2), ''), 'worker', split_part(k.id, '@', 1)
            from mooring_internal.worker k
           where mooring_internal.worker_is_alive(k)) p
       group by 1, 2) v;
  return query
    select 'versions',
        case when n.versions > 1 then 'warning' else 'ok' end,
        coalesce(n.list, 'no agent and no worker is alive'),
        case
          when n.versions > 1
            then 'bring all to one: restart the older workers, '
              'and start the new agent beside each older one: mooring agent --handover ...'
        end;
  -- by each node's own lease; a beat that comes after half of it leaves room for one more try
  select count(*) as nodes,
      max(asked_at - h.beat_at) as oldest,
      array_agg(h.node order by h.beat_at)
        filter (where asked_at - h.beat_at > h.lease_ttl / 2) as late
    into n
    from mooring.heartbeat h
   where h.session is not null and mooring_internal.node_is_live(h);
  return query
    select 'beats',
        case when n.late is null then 'ok' else 'warning' end,
        format(
            'lease %s, a beat every %s, margin %s',
            mooring_internal.format_duration(setting.lease_ttl),
            mooring_internal.format_duration(setting.beat_interval),
            mooring_internal.format_duration(setting.reap_margin))
          || coalesce(
            '; the oldest beat of a live node is '
              || mooring_internal.format_duration(n.oldest) || ' old',
            '')
          || coalesce(
            '; more than half a lease ago: ' || mooring_internal.abbreviate_list(n.late), ''),
        case
          when n.late is not null
            then 'look at the network and the load of these hosts and of the database; '
              'or give more time: update mooring.setting set lease_ttl = ''30 s'';'
        end;
  -- workloads that may write after their lease is over, where agent and warden die together
  select array_agg(k.node order by k.node) filter (where k.owns > 0) as owning,
      array_agg(k.node order by k.node) as weak,
      sum(k.owns) as assignments
    into n
    from (
      select d.name as node,
          (
            select count(*)
              from mooring.assignment a
              join mooring.deployment s on s.id = a.deployment_id and s.on_lost = 'stop'
             where a.node_id = d.id and a.ordinal is not null) as owns
        from mooring.node d
        join mooring.heartbeat h on h.node_id = d.id
       where h.session is not null
         and (d.containment is null or d.containment = 'process-group')) k;
  return query
    select 'containment',
        case when n.weak is null then 'ok' else 'warning' end,
        case
          when n.weak is null then 'the kernel ends the workloads of every agent that dies'
          else format(
            'process-group only, or unknown: %s; '
            'they run %s assignments with on_lost = ''stop''',
            mooring_internal.abbreviate_list(n.weak, 5),
            n.assignments)
        end,
        case
          when n.weak is not null
            then 'install util-linux there, run the agent as root or allow user namespaces, '
              'and restart it; docs/security.md'
        end;
end;
$$;
comment on function mooring_internal.doctor_nodes() is
  'Theme of doctor(): silent nodes, disks, versions, age of beats against leases, containment.';
--! EndIncluded functions/doctor/doctor_nodes.sql
--! Included functions/doctor/doctor_work.sql
-- Checks that what shall run does run.
create or replace function mooring_internal.doctor_work()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  w record;
  inconsistent text[];
begin
  -- a policy that places nothing is the user's choice
  select sum(q.waiting) as waiting,
      max(asked_at - q.since) as oldest,
      string_agg(
        format('%s x %s', q.waiting, coalesce(q.reason, 'it is placed by the next round')),
        '; ' order by q.waiting desc, q.reason) filter (where q.nr <= 3) as reasons,
      max(q.nr) as kinds
    into w
    from (
      select r.reason,
          count(*) as waiting,
          min(a.waiting_since) as since,
          row_number() over (order by count(*) desc) as nr
        from mooring.assignment a
        join mooring.deployment d
          on d.id = a.deployment_id
         and coalesce(d.policy, (select s.default_policy from mooring.setting s)) <> 'none'
        left join mooring_internal.pending_reasons() r on r.signature = a.signature
       where a.node_id is null
         and a.wanted = 'run'
         and a.waiting_since < asked_at - interval '1 min'
       group by r.reason) q;
  return query
    select 'waiting work',
        case
          when w.waiting is null then 'ok'
          when w.oldest > interval '10 min' then 'problem'
          else 'warning'
        end,
        case
          when w.waiting is null then 'nothing waits for a node for more than a minute'
          else format(
            '%s for up to %s: %s%s',
            case w.waiting
              when 1 then '1 assignment waits'
              else format('%s assignments wait', w.waiting)
            end,
            mooring_internal.format_duration(w.oldest),
            w.reasons,
            case when w.kinds > 3 then format('; and %s more reasons', w.kinds - 3) else '' end)
        end,
        case
          when w.waiting is not null
            then 'select assignment_id, package_name, waiting_since, reason from mooring.unplaced;'
        end;
  inconsistent := array(
    select format('deployment %s', u.id)
      from unnest(mooring_internal.inconsistent_deployments()) u (id)
     order by u.id);
  return query
    select 'assignments',
        case when inconsistent = '{}' then 'ok' else 'warning' end,
        case
          when inconsistent = '{}' then 'are what the deployments want'
          else 'are not what the deployments want: '
            || mooring_internal.abbreviate_list(inconsistent)
        end,
        case
          when inconsistent <> '{}'
            then 'select from mooring.evict(); as the evict round does by itself. Where that does '
              'not help, another transaction locks their rows, or triggers are switched off.'
        end;
  select count(*) as runs,
      array_agg(
        format(
          '%s: assignment %s%s: %s',
          coalesce(f.name, 'deployment ' || f.deployment_id),
          f.assignment_id,
          coalesce(' on ' || f.node, ''),
          left(f.reason, 120))
        order by f.restarts desc, f.assignment_id) as examples,
      min(f.assignment_id) as first
    into w
    from mooring.failing f
   where f.restarts >= 3 or f.run_state <> 'backoff';
  return query
    select 'failing work',
        case when w.runs = 0 then 'ok' else 'warning' end,
        case
          when w.runs = 0 then 'nothing fails again and again'
          else format(
            '%s again and again: %s',
            case w.runs when 1 then '1 fails' else format('%s fail', w.runs) end,
            mooring_internal.abbreviate_list(w.examples, 2))
        end,
        case
          when w.runs > 0
            then format('mooring logs %s; select * from mooring.failing;', w.first)
        end;
  select array_agg(
        format(
          '%s: two of it on %s, %s has none',
          coalesce(d.name, 'deployment ' || d.id),
          f.name,
          t.name)
        order by d.name, d.id) as twins
    into w
    from mooring_internal.plan_partings(100) p
    join mooring.deployment d on d.id = p.deployment_id
    join mooring.node f on f.id = p.from_node
    join mooring.node t on t.id = p.to_node;
  return query
    select 'twins',
        case when w.twins is null then 'ok' else 'warning' end,
        case
          when w.twins is null then 'no replicas share a node that could be parted'
          else 'one host would take both: ' || mooring_internal.abbreviate_list(w.twins)
        end,
        case
          when w.twins is not null
            then 'mooring rebalance --apply; select * from mooring.rebalance(10, dry_run => false);'
        end;
  -- What is being installed or was just inserted is not down: none of its instances is in trouble.
  select array_agg(
        format(
          '%s: 0 of %s running, %s',
          coalesce(d.name, 'deployment ' || d.id),
          i.wanted,
          left(coalesce(i.reason, 'it waits for a node'), 160))
        order by d.name, d.id) as down,
      min(d.id) as first
    into w
    from (
      select p.deployment_id,
          count(*) as wanted,
          max(
            case
              when p.run_state = 'unknown' then format('%s is silent', p.node)
              when p.node is not null then coalesce(p.last_error, p.run_state)
            end) as reason
        from mooring.placement p
        left join mooring.heartbeat h on h.node = p.node
       where p.wanted = 'run'
         and p.handover is null
         and p.policy <> 'none'
       group by p.deployment_id
      having bool_and(
        case
          when p.node is null then p.waiting_since < asked_at - interval '1 min'
          when p.run_state = 'unknown' then h.beat_at < asked_at - interval '1 min'
          when p.run_state = 'backoff' then p.restarts >= 3
          else coalesce(p.run_state in ('failed', 'refused'), false)
        end)) i
    join mooring.deployment d on d.id = i.deployment_id and d.enabled;
  return query
    select 'deployments',
        case when w.down is null then 'ok' else 'problem' end,
        case
          when w.down is null then 'none that shall run is down'
          else format(
            '%s down: %s',
            case cardinality(w.down)
              when 1 then '1 is'
              else format('%s are', cardinality(w.down))
            end,
            mooring_internal.abbreviate_list(w.down))
        end,
        case
          when w.down is not null then format(
            'mooring describe deployment id:%s; '
            'select name, node, reason from mooring.failing; '
            'select name, reason from mooring.unplaced;',
            w.first)
        end;
  select array_agg(
        format(
          '%s: %s left, %s', p.node, p."left", left(coalesce(p.why, 'its deadline is over'), 200))
        order by p.since) as stuck,
      count(*) as draining,
      min(p.node) filter (where p.blocked > 0) as first
    into w
    from (
      select d.*,
          d.blocked > 0 or d.deadline_at < asked_at or d.why is not null as is_stuck
        from mooring.drain_progress d
       where not d.done) p
   where p.is_stuck;
  return query
    select 'drains',
        case when w.stuck is null then 'ok' else 'warning' end,
        coalesce(mooring_internal.abbreviate_list(w.stuck, 2), 'none is stuck'),
        case
          when w.stuck is not null then case
            when w.first is null then 'select * from mooring.drain_progress;'
            else format(
              'give that work another node, set a deadline with drain_node(), '
              'or select mooring.undrain_node(%L);',
              w.first)
          end
        end;
end;
$$;
comment on function mooring_internal.doctor_work() is
  'Theme of doctor(): what waits, inconsistent deployments, what fails, twins '
  'that could be parted, deployments that are down, drains that are stuck.';
--! EndIncluded functions/doctor/doctor_work.sql
--! Included functions/doctor/intended_grants.sql
create or replace function mooring_internal.intended_grants()
  returns table (role text, privilege text, object text, col text)
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select v.key, 'EXECUTE', p.oid::regprocedure::text, null
    from jsonb_each(mooring_internal.rights_of_roles() -> 'verbs') v
   cross join lateral jsonb_array_elements_text(v.value) n (name)
    join pg_proc p
      on p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
     and p.proname = n.name
  union all
  -- 'select (a, b), update on mooring.x, mooring.y'
  select t.key, upper(m.parts[1]), btrim(o.object)::regclass::text, btrim(c.col)
    from jsonb_each(mooring_internal.rights_of_roles() -> 'tables') t
   cross join lateral jsonb_array_elements_text(t.value) g (grant_of)
   cross join lateral regexp_split_to_table(split_part(g.grant_of, ' on ', 2), ',') o (object)
   cross join lateral regexp_matches(
     split_part(g.grant_of, ' on ', 1), '(\w+)(?: *\(([^)]*)\))?', 'g') m (parts)
    left join lateral regexp_split_to_table(m.parts[2], ',') c (col) on true
  union all
  select 'mooring_viewer', 'SELECT', c.oid::regclass::text, null
    from pg_class c
   where c.relnamespace = 'mooring'::regnamespace and c.relkind = 'v';
end;
comment on function mooring_internal.intended_grants() is
  'What set_up_roles() gives to which role, one row for each right.';
--! EndIncluded functions/doctor/intended_grants.sql
--! Included functions/doctor/actual_grants.sql
create or replace function mooring_internal.actual_grants()
  returns table (role text, privilege text, object text, col text)
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select coalesce(r.rolname, 'PUBLIC'), g.privilege, g.object, g.col
    from (
      select x.grantee,
          x.privilege_type as privilege,
          p.oid::regprocedure::text as object,
          null::text as col,
          p.proowner as owner
        from pg_proc p
       cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
       where p.pronamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
      union all
      select x.grantee, x.privilege_type, c.oid::regclass::text, null, c.relowner
        from pg_class c
       cross join lateral aclexplode(c.relacl) x
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
      union all
      select x.grantee, x.privilege_type, c.oid::regclass::text, a.attname, c.relowner
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attacl is not null
       cross join lateral aclexplode(a.attacl) x
       where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)) g
    left join pg_roles r on r.oid = g.grantee
   where g.grantee <> g.owner;
end;
comment on function mooring_internal.actual_grants() is
  'Rights on the objects of the two schemas that roles other than the object''s owner have, one '
  'row for each.';
--! EndIncluded functions/doctor/actual_grants.sql
--! Included functions/doctor/doctor_rights.sql
-- Compares the grants with what set_up_roles() gives: grants that are missing, grants that were
-- added by hand, and the caller's own role.
create or replace function mooring_internal.doctor_rights()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  groups text[] := array(
    select k
      from jsonb_object_keys(mooring_internal.rights_of_roles() -> 'verbs') k
     order by 1);
  absent text[];
  member_of text[];
  g record;
begin
  absent := array(
    select r
      from unnest(groups) r
     where to_regrole(r) is null
     order by 1);
  member_of := array(
    select r
      from unnest(groups) r
     where to_regrole(r) is not null
       and pg_has_role(session_user, to_regrole(r), 'member')
     order by 1);
  return query
    select 'your role',
        case
          when mooring_internal.is_schema_owner() or member_of && '{mooring_viewer}' then 'ok'
          else 'warning'
        end,
        case
          when mooring_internal.is_schema_owner() then format(
            '%s acts as the owner of the schema: everything is allowed', session_user)
          when member_of = '{}' then format(
            '%s is a member of none of %s', session_user, array_to_string(groups, ', '))
          else format('%s is a member of %s', session_user, array_to_string(member_of, ', '))
        end,
        case
          when not mooring_internal.is_schema_owner() and not member_of && '{mooring_viewer}'
            then format(
              'grant mooring_viewer to %I; (mooring_operator: also to change things)',
              session_user)
        end;
  return query
    select 'roles',
        case when absent = '{}' then 'ok' else 'warning' end,
        case
          when absent = '{}' then array_to_string(groups, ', ')
          else format(
            'there is no %s: only the owner''s login has these rights',
            array_to_string(absent, ', '))
        end,
        case
          when absent <> '{}'
            then 'as a role that may create roles: '
              'mooring migrate, or select * from mooring.set_up_roles();'
        end;
  select array_agg(
        format('%s lacks %s on %s', d.role, lower(d.privilege), d.object)
        order by 1) filter (where d.intended) as missing,
      array_agg(
        format('%s on %s for %s', lower(d.privilege), d.object, d.role)
        order by 1) filter (where d.role = 'PUBLIC' and not d.intended) as public,
      array_agg(
        format('%s on %s for %s', lower(d.privilege), d.object, d.role)
        order by 1) filter (where d.role <> 'PUBLIC' and not d.intended) as extra
    into g
    from (
      (
        select i.role, i.privilege, i.object || coalesce('.' || i.col, '') as object,
            true as intended
          from mooring_internal.intended_grants() i
         where to_regrole(i.role) is not null
        except all
        select a.role, a.privilege, a.object || coalesce('.' || a.col, ''), true
          from mooring_internal.actual_grants() a)
      union all
      (
        select a.role, a.privilege, a.object || coalesce('.' || a.col, ''), false
          from mooring_internal.actual_grants() a
        except all
        select i.role, i.privilege, i.object || coalesce('.' || i.col, ''), false
          from mooring_internal.intended_grants() i)) d;
  return query
    select 'grants',
        case when g.missing is null then 'ok' else 'problem' end,
        coalesce(
          cardinality(g.missing) || ' are missing: '
            || mooring_internal.abbreviate_list(g.missing),
          'each role has what set_up_roles() gives it'),
        case
          when g.missing is not null
            then 'mooring migrate, or as the owner: select * from mooring.set_up_roles();'
        end;
  return query
    select 'grants to all',
        case when g.public is null then 'ok' else 'problem' end,
        coalesce(
          'PUBLIC may ' || mooring_internal.abbreviate_list(g.public),
          'PUBLIC may do nothing in the schemas'),
        case
          when g.public is not null
            then 'revoke all on all functions in schema mooring, mooring_internal from public; '
              'revoke all on all tables in schema mooring, mooring_internal from public;'
        end;
  return query
    select 'added grants',
        case when g.extra is null then 'ok' else 'warning' end,
        coalesce(
          'granted by hand: ' || mooring_internal.abbreviate_list(g.extra),
          'none besides those of set_up_roles()'),
        case
          when g.extra is not null
            then 'revoke this, and give a login its group instead (docs/security.md); '
              'set_up_roles() restores the rights of the four groups'
        end;
end;
$$;
comment on function mooring_internal.doctor_rights() is
  'Theme of doctor(): the caller''s role, and grants against what set_up_roles() gives.';
--! EndIncluded functions/doctor/doctor_rights.sql
--! Included functions/doctor/doctor_sessions.sql
-- Names the sessions that hold back vacuum, and those that wait for a lock. A snapshot that stays
-- open keeps every dead version of every heartbeat for as long as it stays.
-- Of a session its pid, login, application_name and age are shown, never its text.
-- xmin and lock waits are visible to every role. The age of a transaction is visible only where the
-- owner of the schema is a member of pg_read_all_stats, or of the session's role.
create or replace function mooring_internal.doctor_sessions(
  open_for interval default '1 min',
  waiting_for interval default '2 s'
) returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  here oid := (select d.oid from pg_database d where d.datname = current_database());
  s record;
begin
  select array_agg(
        format(
          'pid %s (%s, %s%s)',
          o.pid,
          o.usename,
          coalesce(nullif(o.application_name, ''), 'unnamed'),
          coalesce(
            ', ' || o.state || ', open for '
              || mooring_internal.format_duration(asked_at - o.xact_start),
            format(
              ', %s transactions behind; for how long is not visible to the owner of the schema',
              o.behind)))
        order by o.xact_start, o.behind desc) as old,
      (array_agg(o.pid order by o.xact_start, o.behind desc))[1] as first,
      max(asked_at - o.xact_start) as oldest
    into s
    from (
      select a.*, greatest(age(a.backend_xmin), age(a.backend_xid)) as behind
        from pg_stat_activity a
       where (a.datid = here or a.backend_type = 'walsender')
         and a.pid <> pg_backend_pid()
         and a.backend_type <> 'autovacuum worker'
         and (
           a.backend_xmin is not null
           or a.backend_xid is not null
           or a.state like 'idle in transaction%')) o
   where o.xact_start < asked_at - open_for
      or o.xact_start is null and o.behind > 100000
      or o.state like 'idle in transaction%' and o.xact_start < asked_at - open_for / 4;
  return query
    select 'long transactions',
        case
          when s.first is null then 'ok'
          when s.oldest > interval '1 hour' then 'problem'
          else 'warning'
        end,
        coalesce(
          mooring_internal.abbreviate_list(s.old)
            || ': vacuum cannot clean up the rows that died since',
          'no snapshot or transaction is open for more than '
            || mooring_internal.format_duration(open_for)),
        case
          when s.first is not null then format(
            'end it: select pg_terminate_backend(%s); for good: '
            'alter database %I set idle_in_transaction_session_timeout = ''1 min'';',
            s.first,
            current_database())
        end;
  select array_agg(
        format(
          '%L (%s, %s old)',
          p.gid,
          p.owner,
          mooring_internal.format_duration(asked_at - p.prepared))
        order by p.prepared) as old,
      (array_agg(p.gid order by p.prepared))[1] as first
    into s
    from pg_prepared_xacts p
   where p.database = current_database() and p.prepared < asked_at - open_for;
  return query
    select 'prepared transactions',
        case when s.first is null then 'ok' else 'problem' end,
        coalesce(
          mooring_internal.abbreviate_list(s.old)
            || ': they keep their locks and dead rows, also over a restart',
          'none is left behind'),
        case
          when s.first is not null
            then format('rollback prepared %L; (or commit prepared)', s.first)
        end;
  select array_agg(
        format(
          '%s (%s%s)',
          r.slot_name,
          case when r.active then 'active' else 'without a reader' end,
          coalesce(
            ', ' || greatest(age(r.xmin), age(r.catalog_xmin)) || ' transactions behind', ''))
        order by r.slot_name) as holding,
      (array_agg(r.slot_name order by r.active, r.slot_name))[1] as first,
      bool_or(not r.active) as idle
    into s
    from pg_replication_slots r
   where not r.active or greatest(age(r.xmin), age(r.catalog_xmin)) > 100000;
  return query
    select 'replication slots',
        case when s.first is null then 'ok' else 'warning' end,
        coalesce(
          mooring_internal.abbreviate_list(s.holding)
            || ': dead rows and WAL are kept for them',
          'none holds anything back'),
        case
          when s.first is not null then format(
            'bring its standby back, or select pg_drop_replication_slot(%L);', s.first)
        end;
  select array_agg(
        format(
          'pid %s (%s) waits%s for %s on %s.%s, held by pid %s',
          w.pid,
          w.application_name,
          coalesce(' ' || mooring_internal.format_duration(asked_at - w.waitstart), ''),
          w.mode,
          w.relnamespace,
          w.relname,
          coalesce(array_to_string(w.blockers, ', '), '?'))
        order by w.waitstart) as waits,
      (array_agg(w.blockers[1] order by w.waitstart))[1] as first,
      bool_or(w.mode = 'AccessExclusiveLock') as ddl
    into s
    from (
      select l.pid,
          a.application_name,
          l.waitstart,
          l.mode,
          c.relnamespace::regnamespace,
          c.relname,
          pg_blocking_pids(l.pid) as blockers
        from pg_locks l
        join pg_class c
          on c.oid = l.relation
         and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
        left join pg_stat_activity a on a.pid = l.pid
       where not l.granted and l.database = here and l.waitstart < asked_at - waiting_for) w;
  return query
    select 'lock waits',
        case
          when s.waits is null then 'ok'
          when s.ddl then 'problem'
          else 'warning'
        end,
        coalesce(
          mooring_internal.abbreviate_list(s.waits, 2),
          'no session waits for a lock on a table of Mooring'),
        case
          when s.waits is not null then format(
            'end the session that holds it: select pg_terminate_backend(%s);',
            coalesce(s.first::text, '...'))
        end;
end;
$$;
comment on function mooring_internal.doctor_sessions(interval, interval) is
  'Theme of doctor(): open snapshots, prepared transactions, replication slots, lock waits. '
  'open_for: how old a transaction, waiting_for: how old a lock wait has to be to show.';
--! EndIncluded functions/doctor/doctor_sessions.sql
--! Included functions/doctor/doctor_storage.sql
-- Checks that the tables are in shape.
create or replace function mooring_internal.doctor_storage()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  retention interval := (select s.event_retention from mooring.setting s);
  -- an event that is older should have been pruned
  prune_patience interval := retention
    + greatest(4 * (select s.prune_interval from mooring.setting s), interval '1 hour');
  nodes bigint := (select count(*) from mooring.heartbeat);
  is_replica boolean := current_setting('session_replication_role') = 'replica';
  t record;
  bloated boolean;
begin
  -- A page is born with a dozen rows, or holds five and four dead versions of each. Several times
  -- as many pages were kept by an open snapshot.
  select pg_relation_size(c.oid) / current_setting('block_size')::int as pages,
      pg_stat_get_dead_tuples(c.oid) as dead,
      greatest(
        pg_stat_get_last_autovacuum_time(c.oid), pg_stat_get_last_vacuum_time(c.oid)) as vacuumed
    into t
    from pg_class c
   where c.oid = 'mooring.heartbeat'::regclass;
  bloated := t.pages > nodes / 2 + 100 or t.dead > 10 * nodes + 5000;
  return query
    select 'heartbeat table',
        case
          when not bloated then 'ok'
          when t.pages > 20 * nodes + 5000 then 'problem'
          else 'warning'
        end,
        format(
          '%s nodes on %s pages, %s dead versions, last vacuum %s',
          nodes,
          t.pages,
          t.dead,
          coalesce(mooring_internal.format_duration(asked_at - t.vacuumed) || ' ago', 'never')),
        case
          when bloated
            then 'end what keeps the dead versions (long transactions, replication slots), then: '
              'vacuum mooring.heartbeat; where it stays large and a pause of beats is acceptable: '
              'vacuum full mooring.heartbeat;'
        end;
  select array_agg(format('%s on %s', g.tgname, g.tgrelid::regclass) order by 1) as off,
      (array_agg(
        format('alter table %s enable trigger %I;', g.tgrelid::regclass, g.tgname)
        order by g.tgrelid::regclass::text, g.tgname))[1] as first
    into t
    from pg_trigger g
    join pg_class c
      on c.oid = g.tgrelid
     and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
   where g.tgenabled not in ('O', 'A');
  return query
    select 'triggers',
        case
          when t.off is not null or is_replica then 'problem'
          else 'ok'
        end,
        case
          when t.off is not null
            then 'switched off: ' || mooring_internal.abbreviate_list(t.off)
          when is_replica
            then 'this session runs none: session_replication_role is replica'
          else 'all are on'
        end,
        coalesce(
          t.first,
          case
            when is_replica
              then 'reset session_replication_role; '
                'where it is set for the database or the role, reset it there'
          end);
  select array_agg(
        format(
          '%s counted as %s, owns %s',
          coalesce(n.name, 'node ' || l.node_id),
          l.kept,
          l.counted)
        order by l.node_id) as wrong
    into t
    from mooring_internal.inconsistent_loads() l
    left join mooring.node n on n.id = l.node_id;
  return query
    select 'loads',
        case when t.wrong is null then 'ok' else 'warning' end,
        coalesce(
          'node_load is wrong: ' || mooring_internal.abbreviate_list(t.wrong),
          'are what the nodes own'),
        case
          when t.wrong is not null
            then 'select from mooring.evict(); as the evict round does by itself. '
              'Where it comes back, look at the triggers of assignment.'
        end;
  -- the oldest by id: the table is written in order of time
  select pg_total_relation_size('mooring.event') as events,
      pg_total_relation_size('mooring.ownership') as history,
      (
        select e.at
          from mooring.event e
         order by e.id
         limit 1) as oldest
    into t;
  return query
    select 'history',
        case
          when t.oldest < asked_at - prune_patience
            or t.events + t.history > 20 * 1024 ^ 3
            then 'warning'
          else 'ok'
        end,
        format(
          'events %s, owners %s, kept for %s%s',
          pg_size_pretty(t.events),
          pg_size_pretty(t.history),
          retention,
          coalesce(
            '; the oldest event is '
              || mooring_internal.format_duration(asked_at - t.oldest) || ' old',
            '')),
        case
          when t.oldest < asked_at - prune_patience
            then 'select mooring.prune_events(); '
              'it deletes 50,000 at a time: repeat it while it returns as many'
          when t.events + t.history > 20 * 1024 ^ 3
            then 'keep less: update mooring.setting set event_retention = ''7 days'';'
        end;
end;
$$;
comment on function mooring_internal.doctor_storage() is
  'Theme of doctor(): bloat of the heartbeats, disabled triggers, loads, size of the history.';
--! EndIncluded functions/doctor/doctor_storage.sql
--! Included functions/doctor/doctor_server.sql
-- How the server and the database are set. reset_val is what a new session of the caller gets; the
-- values in force here are not, because this function pins search_path.
create or replace function mooring_internal.doctor_server()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  asked_at timestamptz := clock_timestamp();
  here oid := (select d.oid from pg_database d where d.datname = current_database());
  off text[];
  c record;
  free int;
  needed int;
begin
  off := array(
    select s.name
      from pg_settings s
     where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
     order by 1);
  return query
    select 'durability',
        case
          when off <> '{}' then 'problem'
          when s.reset_val in ('off', 'local') then 'warning'
          else 'ok'
        end,
        case
          when off <> '{}' then format(
            '%s is off: a crash of the machine can destroy the database',
            array_to_string(off, ' and '))
          else format(
            'fsync and full_page_writes are on; synchronous_commit is %s%s',
            s.reset_val,
            case
              when s.reset_val = 'off'
                then ': placement waits for disk all the same, your own INSERT does not'
              else ''
            end)
        end,
        case
          when off <> '{}'
            then format('alter system set %s = on; select pg_reload_conf();', off[1])
          when s.reset_val in ('off', 'local')
            then format('alter database %I set synchronous_commit = on;', current_database())
        end
      from pg_settings s
     where s.name = 'synchronous_commit';
  off := array(
    select s.name
      from pg_settings s
     where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
     order by 1);
  return query
    select 'autovacuum',
        case when off = '{}' then 'ok' else 'problem' end,
        case
          when off = '{}' then 'on'
          else format(
            '%s is off: heartbeats and queue grow without end', array_to_string(off, ' and '))
        end,
        case
          when off <> '{}'
            then format('alter system set %s = on; select pg_reload_conf();', off[1])
        end;
  return query
    select 'notifications',
        case
          when u.used >= 0.5 then 'problem'
          when u.used >= 0.1 then 'warning'
          else 'ok'
        end,
        format('the queue is %s %% full', round((100 * u.used)::numeric, 1))
          || case
            when u.used >= 0.5 then ': hints are left out, so that no commit fails; '
              'work is found by the next beat or round'
            else ''
          end,
        case
          when u.used >= 0.1 then 'a session that listens has a transaction open for too long: '
            'select pid, usename, xact_start from pg_stat_activity order by xact_start limit 5;'
        end
      from (select pg_notification_queue_usage() as used) u;
  select count(*) as standbys,
      count(*) filter (where r.sync_state in ('sync', 'quorum')) as sync,
      count(*) filter (where r.sync_state is null) as hidden
    into c
    from pg_stat_replication r;
  return query
    select 'standbys',
        case
          when c.standbys > 0 and c.sync = 0 and c.hidden = 0 then 'warning'
          else 'ok'
        end,
        case
          when c.standbys = 0 then 'none is connected'
          when c.hidden > 0 then format(
            '%s; whether one is synchronous is not visible to the owner of the schema',
            c.standbys)
          when c.sync = 0 then format(
            '%s, all asynchronous: a promotion may lose the last claims, '
            'and a hold of one lease has to cover it',
            c.standbys)
          else format('%s, %s of them synchronous', c.standbys, c.sync)
        end,
        case
          when c.standbys > 0 and c.sync = 0 and c.hidden = 0
            then 'alter system set synchronous_standby_names = ''ANY 1 (*)''; '
              'select pg_reload_conf();'
          when c.hidden > 0 then format('grant pg_read_all_stats to %I;', current_user)
        end;
  -- pg_upgrade and a restored dump begin at timeline 1 again, and epochs stay as high as they were;
  -- a standby writes no log, so it has no timeline to read
  if not pg_is_in_recovery() then
    select (max(a.epoch) >> 40) + 1 as had, (mooring_internal.next_epoch(0) >> 40) + 1 as has
      into c
      from mooring.assignment a;
    return query
      select 'epochs',
          case when c.had > c.has then 'warning' else 'ok' end,
          case
            when c.had > c.has then format(
              'they were given on timeline %s, and the server is on %s: until it has been '
              'promoted past that, a promotion without the last claims gives their epochs again',
              c.had,
              c.has)
            else format('of timeline %s', c.has)
          end,
          case
            when c.had > c.has
              then 'keep a synchronous standby; without one, stop the agents before a standby is '
                'promoted, and start them again afterwards'
          end;
  end if;
  select count(*) as used,
      count(*) filter (where a.application_name like 'mooring agent%') as agents
    into c
    from pg_stat_activity a
   where a.backend_type = 'client backend';
  free := current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0)
    - c.used;
  -- an agent holds two connections and a third while it reports; all may come back at once
  needed := greatest(
    3 * (select count(*) from mooring.heartbeat h where h.session is not null)::int - c.agents,
    0);
  return query
    select 'connections',
        case
          when free < 3 then 'problem'
          when free < needed + 5 then 'warning'
          else 'ok'
        end,
        format(
            '%s of %s in use, %s of them by agents; %s free',
            c.used,
            current_setting('max_connections'),
            c.agents,
            free)
          || case
            when free < needed + 5 then format(', and the agents may need %s more', needed)
            else ''
          end,
        case
          when free < needed + 5 then format(
            'alter system set max_connections = %s; and restart the server',
            current_setting('max_connections')::int + greatest(needed, 50))
        end;
  -- pg_jit_available() reads what is in force here as well, so nothing on the way to this function
  -- switches jit off
  return query
    select 'jit',
        case when j.compiles and j.nodes >= 100 then 'warning' else 'ok' end,
        case
          when s.reset_val = 'off' then 'off'
          when not j.compiles then 'on, but this server has no compiler'
          else format(
            'on: with %s nodes %s',
            j.nodes,
            case
              when j.nodes >= 100
                then 'a query of a view may compile for longer than it runs '
                  '(functions of Mooring switch it off)'
              else 'it does not matter'
            end)
        end,
        case
          when j.compiles and j.nodes >= 100
            then format('alter database %I set jit = off;', current_database())
        end
      from pg_settings s
     cross join lateral (
       select s.reset_val = 'on' and pg_jit_available() as compiles,
           (select count(*) from mooring.node) as nodes) j
     where s.name = 'jit';
  return query
    select 'search_path',
        'ok',
        case
          when s.reset_val ~ '(^|[ ,"])mooring($|[ ,"])' then 'has mooring in it'
          else 'does not have mooring in it: write mooring.deployment, mooring.placement ...'
        end,
        case
          when s.reset_val !~ '(^|[ ,"])mooring($|[ ,"])' then format(
            'alter database %I set search_path = %s, mooring;', current_database(), s.reset_val)
        end
      from pg_settings s
     where s.name = 'search_path';
  select count(*) as plain,
      count(*) filter (where l.ssl is null) as hidden,
      array_agg(distinct coalesce(nullif(a.application_name, ''), 'unnamed'))
        filter (where l.ssl is false) as names,
      count(*) filter (where l.ssl is false) as bare
    into c
    from pg_stat_activity a
    left join pg_stat_ssl l on l.pid = a.pid
   where a.datid = here
     and a.backend_type = 'client backend'
     and (
       a.client_addr is null and a.client_port is null
       or not (a.client_addr <<= '127.0.0.0/8' or a.client_addr = '::1'))
     and coalesce(a.client_port, 0) <> -1;
  return query
    select 'encryption',
        case when c.bare > 0 then 'warning' else 'ok' end,
        case
          when c.bare > 0 then format(
            '%s sessions come over the network without TLS: %s',
            c.bare,
            mooring_internal.abbreviate_list(c.names))
          when c.hidden > 0 then format(
            'of %s sessions it is not visible to the owner of the schema', c.hidden)
          else 'no session comes over the network without TLS'
        end,
        case
          when c.bare > 0
            then 'sslmode=verify-full in their DATABASE_URL, hostssl in pg_hba.conf; '
              'docs/security.md'
          when c.hidden > 0 then format('grant pg_read_all_stats to %I;', current_user)
        end;
end;
$$;
comment on function mooring_internal.doctor_server() is
  'Theme of doctor(): durability, autovacuum, standbys, epochs, connections, jit, search_path, '
  'encryption.';
--! EndIncluded functions/doctor/doctor_server.sql
--! Included functions/doctor/doctor.sql
-- doctor: one row per check, by theme: ok, warning (look at it) or problem (something does not
-- work, or is about to), what was found, and the next command.
-- It reads only, so it works on a standby. `mooring doctor` shows the same and adds what needs a
-- client: LISTEN through a pooler, clocks, versions, TLS.
-- Every caller gets what the owner of the schema may see. Of other sessions that is pid, login,
-- application_name and age, never their text. Where the owner may not see it either, the check says
-- so.
-- A theme that fails, or whose table is locked, is a finding of its own. The other themes are
-- checked all the same.
create or replace function mooring.doctor()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 40
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '1s'
as $$
declare
  theme text;
  holder int;
begin
  foreach theme in array '{rounds,nodes,work,rights,sessions,storage,server}'::text[] loop
    begin
      return query execute format('select f.* from mooring_internal.doctor_%s() f', theme);
    exception
      when lock_not_available then
        -- by database too: one that was created from another has the same oids for its tables
        select l.pid into holder
          from pg_locks l
          join pg_class c
            on c.oid = l.relation
           and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         where l.granted
           and l.mode = 'AccessExclusiveLock'
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
         limit 1;
        return query
          select theme,
              'problem',
              format(
                'could not be looked at: a table of Mooring is locked by pid %s',
                coalesce(holder::text, '?')),
              format(
                'if that is no migration that ends soon: select pg_terminate_backend(%s);',
                coalesce(holder::text, '...'));
      when others then
        return query
          select theme,
              'warning',
              format('could not be looked at: %s (%s)', sqlerrm, sqlstate),
              format('select * from mooring_internal.doctor_%s();', theme);
    end;
  end loop;
end;
$$;
comment on function mooring.doctor() is
  'What is wrong with this installation, or soon will be: one row per check with level (ok, '
  'warning, problem), what was found, and the next command.';
--! EndIncluded functions/doctor/doctor.sql

-- grants
--! Included grants.sql
-- Default deny: PUBLIC gets nothing here. The owner of the schema uses it all. Rights of other
-- roles are in functions/roles/rights_of_roles.sql; set_up_roles() grants them.
select from mooring.set_up_roles();
--! EndIncluded grants.sql
--! EndIncluded all.sql

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
