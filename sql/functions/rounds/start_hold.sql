-- Sets the hold, unless another session is doing so or has done so since the caller read the pulse.
-- Returns false where no agent holds a name: then only the pulse starts again.
-- locks: pulse (skip locked)
create or replace function mooring_internal.start_hold(
  at timestamptz,
  hold_until_observed timestamptz,
  noticed text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  has_sessions boolean := exists (
    select from mooring.heartbeat h
     where h.session is not null);
begin
  perform
    from mooring_internal.pulse p
   where p.only_row
     and p.hold_until is not distinct from start_hold.hold_until_observed
     for update skip locked;
  if found then
    update mooring_internal.pulse p
       set pulse_at = start_hold.at,
           hold_until = case
             when has_sessions then start_hold.at + mooring_internal.hold_length()
           end,
           hold_reason = case when has_sessions then start_hold.noticed end;
    -- under the lock of the pulse, so that no session waits for the one that writes the marker
    perform mooring_internal.write_outage_marker();
    if has_sessions then
      perform mooring_internal.add_event('hold_started', start_hold.noticed);
    end if;
  end if;
  return has_sessions;
end;
$$;
comment on function mooring_internal.start_hold(timestamptz, timestamptz, text) is
  'Begins a hold, once for all callers that notice the same, and writes the reason as an event.';
