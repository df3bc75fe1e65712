create or replace function mooring.placements_of(
  node text,
  max_rows int default 200,
  skip int default 0
) returns setof mooring.placement
  language plpgsql stable security definer rows 200
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owner mooring.node := mooring_internal.node_named(placements_of.node);
begin
  return query
    select p.*
      from mooring.placement p
     where p.node = owner.name
     order by p.assignment_id
    offset greatest(coalesce(placements_of.skip, 0), 0)
     limit least(greatest(coalesce(placements_of.max_rows, 200), 0), 2000);
end;
$$;
comment on function mooring.placements_of(text, int, int) is
  'What a node owns, a page at a time: at most max_rows (up to 2000) rows, after the first skip.';
