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
