create or replace function mooring_internal.hold_length() returns interval
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return (
    select s.reap_margin + greatest(
        s.lease_ttl,
        (select max(h.lease_ttl) from mooring.heartbeat h where h.session is not null))
      from mooring.setting s);
end;
$$;
comment on function mooring_internal.hold_length() is
  'How long a hold lasts: the longest lease that a session holds, and the margin.';
