-- Hold: for one lease + margin after an outage nothing is reaped, claimed or newly started, because agents could not beat while the
-- database was away and their silence proves nothing. Noticed by
--   an empty outage_marker  crash recovery or promotion (an unlogged table is emptied by both, and survives a clean restart),
--   a foreign outage_marker a restored dump,
--   an old pulse            whoever ticks was away for more than half a lease: the database was down, paused, or nobody looked,
--   a pulse in the future   the clock was set back,
--   a caller of tick        whose own clock has counted something else than ours since it last ticked: see notice_clock_step().
-- Set once: a hold that has ended starts the pulse anew where neither an agent nor a tick came since it began, so a quiet system does not hold for ever. An outage during a
-- hold begins it anew, also one that is noticed after its end: where somebody has ticked the pulse goes on as ever; before that whoever ticks has half a lease more to come
-- back, and by its end has come, if agents have (they tick where no worker does). Where no agent holds a name nothing
-- can be running: nothing is held, and the pulse starts with the first agent that comes.
-- locks: pulse (skip locked: whoever holds it notices the same)
create or replace function mooring_internal.notice_outage() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- read before the pulse: whatever delays us afterwards only makes the pulse look younger
  at timestamptz := clock_timestamp();
  pulse mooring_internal.pulse;
  marked boolean;
  setting mooring.setting;
  held boolean;
  seen_at timestamptz;
  noticed text;
begin
  -- at one instant: a pulse of before somebody noticed and a marker of after would together say that nothing happened
  select p.pulse_at, p.hold_until, mooring_internal.outage_marker_is_present() into pulse.pulse_at, pulse.hold_until, marked from mooring_internal.pulse p;
  select s.* into setting from mooring.setting s;
  held := coalesce(pulse.hold_until > at, false);
  seen_at := pulse.pulse_at;
  -- start_hold() leaves a pulse of the hold's beginning; a later one is of somebody who ticked
  if coalesce(pulse.hold_until > pulse.pulse_at, false) and pulse.pulse_at <= pulse.hold_until - mooring_internal.hold_length() then
    if held then
      seen_at := pulse.pulse_at + setting.lease_ttl / 2;
    elsif not exists (select from mooring.heartbeat h where h.session is not null and h.beat_at > pulse.pulse_at) then
      seen_at := pulse.hold_until;
    end if;
  end if;
  noticed := case
    when not marked then 'the database crashed, was promoted or restored'
    when seen_at < at - setting.lease_ttl / 2 then format('nobody ticked for %s', justify_interval(date_trunc('milliseconds', at - pulse.pulse_at)))
    when pulse.pulse_at > at + setting.reap_margin then format('the clock went back by %s', justify_interval(date_trunc('milliseconds', pulse.pulse_at - at)))
    -- the margin: whoever set it may have read the clock after we did
    when held and pulse.hold_until > at + mooring_internal.hold_length() + setting.reap_margin then 'the clock went back during a hold'
  end;
  if noticed is null then
    return held;
  end if;
  return mooring_internal.start_hold(at, pulse.hold_until, noticed);
end;
$$;
comment on function mooring_internal.notice_outage() is 'Looks for an outage; the first caller to notice one starts the hold. True while there is a hold: nothing may be reaped, claimed or newly started. It writes; a reader asks hold_reason().';
