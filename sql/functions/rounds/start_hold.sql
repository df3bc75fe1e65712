-- Sets it, unless somebody else is just doing so or has done so since the caller looked. False where no agent holds a name: then only the pulse starts anew.
-- locks: pulse (skip locked)
create or replace function mooring_internal.start_hold(at timestamptz, hold_until_seen timestamptz, noticed text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  somebody boolean := exists (select from mooring.heartbeat h where h.session is not null);
begin
  perform from mooring_internal.pulse p where p.only_row and p.hold_until is not distinct from start_hold.hold_until_seen for update skip locked;
  if found then
    update mooring_internal.pulse p
       set pulse_at = start_hold.at, hold_until = case when somebody then start_hold.at + mooring_internal.hold_length() end, hold_reason = case when somebody then start_hold.noticed end;
    -- under the lock of the pulse, so that nobody waits for whoever writes it
    perform mooring_internal.write_outage_marker();
    if somebody then
      perform mooring_internal.add_event('hold_started', start_hold.noticed);
    end if;
  end if;
  return somebody;
end;
$$;
comment on function mooring_internal.start_hold(timestamptz, timestamptz, text) is 'Begins a hold, once for all who notice the same, and says why in an event.';
