-- Lets the clock of whoever ticks judge ours: a step forwards of more than the margin makes silent nodes look silent for longer than they were, and a step that is
-- shorter than half a lease leaves no old pulse behind. The caller says what our clock showed when it last ticked, and how long ago that was by its own, which no
-- step moves. Both times include the way of a request to us, so one second is granted however small the margin is. What is longer ago than a lease is left to the pulse.
-- A step in the middle of a hold begins it anew, once: a hold that began after the caller's last tick has seen the step already.
-- locks: pulse (skip locked)
create or replace function mooring_internal.notice_clock_step(last_clock_ms float8, since_ms float8, at timestamptz) returns boolean
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
  if since_ms between 0 and mooring_internal.milliseconds(setting.lease_ttl) and last_clock_ms between 0 and 1e15 then
    since := since_ms * interval '1 ms';
    step := (extract(epoch from at)::float8 * 1000 - last_clock_ms) * interval '1 ms' - since;
    if abs(extract(epoch from step)) > extract(epoch from greatest(setting.reap_margin, interval '1 s')) then
      select p.hold_until into until from mooring_internal.pulse p;
      if until is null or until < at + mooring_internal.hold_length() - since - setting.reap_margin then
        return mooring_internal.start_hold(at, until, format('the clock went %s by %s', case when step < interval '0' then 'back' else 'forward' end,
          justify_interval(date_trunc('milliseconds', greatest(step, -step)))));
      end if;
    end if;
  end if;
  return false;
end;
$$;
comment on function mooring_internal.notice_clock_step(float8, float8, timestamptz) is 'Starts a hold when the database clock, which shows at, was stepped since a caller last ticked, by the caller''s own clock.';
