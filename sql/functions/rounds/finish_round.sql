-- Notes that a round's work was done just now. It writes at most twice a period and never waits for
-- the row, because hundreds of claims may end at once.
-- locks: round (skip locked)
create or replace function mooring_internal.finish_round(name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring_internal.round r
     set done_at = clock_timestamp()
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = finish_round.name
        and (
          l.done_at < clock_timestamp() - mooring_internal.round_interval(l.name) / 2
          or l.done_at > clock_timestamp())
        for update skip locked);
end;
$$;
comment on function mooring_internal.finish_round(text) is
  'Notes the end of a round.';
