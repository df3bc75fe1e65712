-- What notice_outage() decides, for readers. It writes nothing, so it works on a standby and inside
-- views.
create or replace function mooring_internal.hold_reason() returns text
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
return (
  select case
      when p.hold_until > clock_timestamp() then p.hold_reason
      -- unlogged tables cannot be read on a standby
      when pg_is_in_recovery() then null
      when exists (select from mooring.heartbeat h where h.session is not null)
        and not mooring_internal.outage_marker_is_present()
        then 'the database crashed, was promoted or restored'
    end
    from mooring_internal.pulse p);
comment on function mooring_internal.hold_reason() is
  'Why nothing is reaped, claimed or started at the moment; null when there is no hold.';
