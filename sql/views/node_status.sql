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
