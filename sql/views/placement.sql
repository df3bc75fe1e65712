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
