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
