-- Hold: for one lease + margin after an outage nothing is reaped, claimed or newly started, because agents could not beat while the
-- database was away and their silence proves nothing. Noticed by
--   an empty outage_marker  crash recovery or promotion (an unlogged table is emptied by both, and survives a clean restart),
--   a foreign outage_marker a restored dump,
--   an old pulse            whoever ticks was away for more than half a lease: the database was down, paused, or nobody looked,
--   a pulse in the future   the clock was set back.
-- Set once: a hold that has ended starts the pulse anew, so a quiet system does not hold for ever. Where no agent holds a name nothing
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
  read record;
  setting mooring.setting;
  seen_at timestamptz;
  noticed text;
  somebody boolean;
  longest interval;
begin
  -- at one instant: a pulse of before somebody noticed and a marker of after would together say that nothing happened
  select p as pulse, mooring.outage_marked() as marked into read from mooring.pulse p;
  pulse := read.pulse;
  select s.* into setting from mooring.setting s;
  if pulse.hold_until > at then
    longest := setting.reap_margin + greatest(setting.lease_ttl, (select max(h.lease_ttl) from mooring.heartbeat h where h.session is not null));
    -- the margin: whoever set it may have read the clock after we did
    if pulse.hold_until <= at + longest + setting.reap_margin then
      return true;
    end if;
    noticed := 'the clock went back during a hold';
  end if;
  seen_at := greatest(pulse.pulse_at, pulse.hold_until);
  noticed := coalesce(noticed, case
    when not read.marked then 'the database crashed, was promoted or restored'
    when seen_at < at - setting.lease_ttl / 2 then format('nobody ticked for %s', justify_interval(date_trunc('milliseconds', at - seen_at)))
    when pulse.pulse_at > at + setting.reap_margin then format('the clock went back by %s', justify_interval(date_trunc('milliseconds', pulse.pulse_at - at)))
  end);
  if noticed is null then
    return false;
  end if;
  somebody := exists (select from mooring.heartbeat h where h.session is not null);
  perform from mooring.pulse p where p.only_row and p.hold_until is not distinct from pulse.hold_until for update skip locked;
  if found then
    update mooring.pulse p
       set pulse_at = at,
           hold_until = case when somebody then at + setting.reap_margin + greatest(setting.lease_ttl, (select max(h.lease_ttl) from mooring.heartbeat h where h.session is not null)) end,
           hold_reason = case when somebody then noticed end;
    -- under the lock of the pulse, so that nobody waits for whoever writes it
    perform mooring.mark_outage_seen();
    if somebody then
      perform mooring.add_event('hold_started', noticed);
    end if;
  end if;
  return somebody;
end;
$$;
comment on function mooring.hold() is 'True while nothing may be reaped, claimed or newly started because of an outage; the first caller to notice one starts the hold.';

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
