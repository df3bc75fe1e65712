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
