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
