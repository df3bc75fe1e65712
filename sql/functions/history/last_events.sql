create or replace function mooring.last_events(n int default 50) returns setof mooring.event
  language sql stable security definer rows 50
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select l.*
    from (select e.* from mooring.event e order by e.id desc limit greatest(last_events.n, 0)) l
   order by l.id;
end;
comment on function mooring.last_events(int) is 'The last n events, oldest first.';
