-- The load that claim() may not give away again: what a node owns, and the places kept for moves
-- to it. An assignment that only restarts on its node counts once.
create or replace function mooring_internal.assigned_and_promised_per_node()
  returns table (node_id int, assigned_and_promised int)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (
    select from mooring_internal.moves_under_way() m
     where m.to_node is not null) then
    return query
      select l.node_id, l.assigned from mooring_internal.assigned_per_node() l;
    return;
  end if;
  return query
    select u.node_id, sum(u.n)::int
      from (select l.node_id, l.assigned as n
              from mooring_internal.assigned_per_node() l
            union all
            select m.to_node, 1
              from mooring_internal.moves_under_way() m
             where m.to_node is not null
               and m.to_node is distinct from m.node_id) u
     group by u.node_id;
end;
$$;
comment on function mooring_internal.assigned_and_promised_per_node() is
  'How many assignments, daemons not counted, each node owns or has been promised.';
