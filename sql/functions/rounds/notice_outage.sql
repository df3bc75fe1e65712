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
