-- Where the deployment is gone its process still has to stop. Then the default of the column holds.
create or replace function mooring_internal.stop_grace_ms(deployment mooring.deployment) returns int
  language sql stable parallel safe
return coalesce(mooring_internal.milliseconds(deployment.stop_grace), 10000);
comment on function mooring_internal.stop_grace_ms(mooring.deployment) is
  'Time between SIGTERM and SIGKILL of its processes, in milliseconds; the default of '
  'deployment.stop_grace where the deployment is gone.';
