-- node_load grows by a row for every change. The placing transaction folds it once it is longer
-- than a few rows per node. The DELETE does not see concurrent appends, so they stay.
-- locks: only the rows it folds; call it under the placement lock
create or replace function mooring_internal.fold_node_load() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- most claims find nothing to fold, and need a thousand rows at most to see it
  if exists (select from mooring_internal.node_load l offset 1000)
     and (select count(*) from mooring_internal.node_load)
       > 1000 + 2 * (select count(*) from mooring.node) then
    with folded as (
      delete from mooring_internal.node_load l
      returning l.node_id, l.change
    )
    insert into mooring_internal.node_load (node_id, change)
    select f.node_id, sum(f.change)
      from folded f
     group by f.node_id
    having sum(f.change) <> 0;
  end if;
end;
$$;
comment on function mooring_internal.fold_node_load() is
  'Sums node_load up to one row per node once it has grown.';
