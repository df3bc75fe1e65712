-- How often a round runs. Reap and place run at least once in a sixth of the lease, so that scaling
-- the lease down scales them too.
create or replace function mooring_internal.round_interval(name text) returns interval
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return (
    select case round_interval.name
        when 'evict' then s.evict_interval
        when 'prune' then s.prune_interval
        else least(s.round_interval, s.lease_ttl / 6)
      end
      from mooring.setting s);
end;
$$;
comment on function mooring_internal.round_interval(text) is
  'Period of a round: reap and place by setting.round_interval (at most a sixth of the lease), '
  'evict and prune by their own settings.';
