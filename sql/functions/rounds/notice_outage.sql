-- Hold: for one lease + margin after an outage nothing is reaped, claimed or newly started, because agents could not beat while the
-- database was away and their silence proves nothing. Noticed by
--   an empty outage_marker  crash recovery or promotion (an unlogged table is emptied by both, and survives a clean restart),
--   a foreign outage_marker a restored dump,
--   an old pulse            whoever ticks was away for more than half a lease: the database was down, paused, or nobody looked,
--   a pulse in the future   the clock was set back,
--   a caller of tick        whose own clock has counted something else than ours since it last ticked: see noticed_clock_step().
-- Set once: a hold that has ended starts the pulse anew where neither an agent nor a tick came since it began, so a quiet system does not hold for ever. An outage during a
-- hold begins it anew, also one that is noticed after its end: where somebody has ticked the pulse goes on as ever; before that whoever ticks has half a lease more to come
-- back, and by its end has come, if agents have (they tick where no worker does). Where no agent holds a name nothing
-- can be running: nothing is held, and the pulse starts with the first agent that comes.
-- locks: pulse (skip locked: whoever holds it notices the same)
create or replace function mooring.hold() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- read before the pulse: whatever delays us afterwards only makes the pulse look younger
  at timestamptz := clock_timestamp();
  pulse mooring.pulse;
  marked boolean;
  setting mooring.setting;
  held boolean;
  seen_at timestamptz;
  noticed text;
begin
  -- at one instant: a pulse of before somebody noticed and a marker of after would together say that nothing happened
  select p.pulse_at, p.hold_until, mooring.outage_marked() into pulse.pulse_at, pulse.hold_until, marked from mooring.pulse p;
  select s.* into setting from mooring.setting s;
  held := coalesce(pulse.hold_until > at, false);
  seen_at := pulse.pulse_at;
  -- start_hold() leaves a pulse of the hold's beginning; a later one is of somebody who ticked
  if coalesce(pulse.hold_until > pulse.pulse_at, false) and pulse.pulse_at <= pulse.hold_until - mooring.hold_length() then
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
    when held and pulse.hold_until > at + mooring.hold_length() + setting.reap_margin then 'the clock went back during a hold'
  end;
  if noticed is null then
    return held;
  end if;
  return mooring.start_hold(at, pulse.hold_until, noticed);
end;
$$;
comment on function mooring.hold() is 'True while nothing may be reaped, claimed or newly started because of an outage; the first caller to notice one starts the hold.';

-- Lets the clock of whoever ticks judge ours: a step forwards of more than the margin makes silent nodes look silent for longer than they were, and a step that is
-- shorter than half a lease leaves no old pulse behind. The caller says what our clock showed when it last ticked, and how long ago that was by its own, which no
-- step moves. Both times include the way of a request to us, so one second is granted however small the margin is. What is longer ago than a lease is left to the pulse.
-- A step in the middle of a hold begins it anew, once: a hold that began after the caller's last tick has seen the step already.
-- locks: pulse (skip locked)
create or replace function mooring.noticed_clock_step(last_clock_ms float8, since_ms float8, at timestamptz) returns boolean
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
  if since_ms between 0 and mooring.milliseconds(setting.lease_ttl) and last_clock_ms between 0 and 1e15 then
    since := since_ms * interval '1 ms';
    step := (extract(epoch from at)::float8 * 1000 - last_clock_ms) * interval '1 ms' - since;
    if abs(extract(epoch from step)) > extract(epoch from greatest(setting.reap_margin, interval '1 s')) then
      select p.hold_until into until from mooring.pulse p;
      if until is null or until < at + mooring.hold_length() - since - setting.reap_margin then
        return mooring.start_hold(at, until, format('the clock went %s by %s', case when step < interval '0' then 'back' else 'forward' end,
          justify_interval(date_trunc('milliseconds', greatest(step, -step)))));
      end if;
    end if;
  end if;
  return false;
end;
$$;
comment on function mooring.noticed_clock_step(float8, float8, timestamptz) is 'Starts a hold when the database clock, which shows at, was stepped since a caller last ticked, by the caller''s own clock.';

create or replace function mooring.hold_length() returns interval
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return (select s.reap_margin + greatest(s.lease_ttl, (select max(h.lease_ttl) from mooring.heartbeat h where h.session is not null)) from mooring.setting s);
end;
$$;
comment on function mooring.hold_length() is 'How long a hold lasts: the longest lease that was given, and the margin.';

-- Sets it, unless somebody else is just doing so or has done so since the caller looked. False where no agent holds a name: then only the pulse starts anew.
-- locks: pulse (skip locked)
create or replace function mooring.start_hold(at timestamptz, hold_until_seen timestamptz, noticed text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  somebody boolean := exists (select from mooring.heartbeat h where h.session is not null);
begin
  perform from mooring.pulse p where p.only_row and p.hold_until is not distinct from start_hold.hold_until_seen for update skip locked;
  if found then
    update mooring.pulse p
       set pulse_at = start_hold.at, hold_until = case when somebody then start_hold.at + mooring.hold_length() end, hold_reason = case when somebody then start_hold.noticed end;
    -- under the lock of the pulse, so that nobody waits for whoever writes it
    perform mooring.mark_outage_seen();
    if somebody then
      perform mooring.add_event('hold_started', start_hold.noticed);
    end if;
  end if;
  return somebody;
end;
$$;
comment on function mooring.start_hold(timestamptz, timestamptz, text) is 'Begins a hold, once for all who notice the same, and says why in an event.';

-- The same for readers: writes nothing, so it works on a standby and inside views.
create or replace function mooring.holding() returns text
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select case
      when p.hold_until > clock_timestamp() then p.hold_reason
      -- unlogged tables cannot be read on a standby
      when pg_is_in_recovery() then null
      when exists (select from mooring.heartbeat h where h.session is not null) and not mooring.outage_marked() then 'the database crashed, was promoted or restored'
    end
    from mooring.pulse p);
comment on function mooring.holding() is 'Why nothing is reaped, claimed or started at the moment; null when there is no hold.';
