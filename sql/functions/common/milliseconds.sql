create or replace function mooring_internal.milliseconds(duration interval) returns int
  language sql immutable parallel safe
return round(extract(epoch from duration) * 1000)::int;
comment on function mooring_internal.milliseconds(interval) is
  'Durations leave the database as milliseconds; '
  'agents measure them with their own monotonic clock.';
