-- Triggers keep node_load. A change that bypassed them would make a node look full, or empty, for
-- ever: a TRUNCATE or a restore of the table, edits under session_replication_role = replica.
-- The difference is appended, as every change is. The placement lock is needed because two
-- recounts at once would both append it, and a claim would place by wrong loads meanwhile.
-- The lock is tried, not waited for, because the round already holds assignment rows.
-- locks: placement (tried)
create or replace function mooring_internal.recount_loads() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  mended int;
begin
  if not exists (select from mooring_internal.inconsistent_loads())
     or current_setting('transaction_isolation') <> 'read committed'
     or not mooring_internal.try_lock_placement() then
    return 0;
  end if;
  with inconsistent as materialized (
    select l.node_id, l.kept, l.counted from mooring_internal.inconsistent_loads() l
  ),
  mended as (
    insert into mooring_internal.node_load (node_id, change)
    select a.node_id, a.counted - a.kept from inconsistent a
  )
  insert into mooring.event (kind, node_id, node, reason, detail)
  select 'load_recounted', a.node_id, n.name, 'node_load was not what the node owns',
      jsonb_build_object('from', a.kept, 'to', a.counted)
    from inconsistent a
    left join mooring.node n on n.id = a.node_id
   order by a.node_id;
  get diagnostics mended = row_count;
  return mended;
end;
$$;
comment on function mooring_internal.recount_loads() is
  'Makes node_load what the nodes own, where it is not; returns the number of nodes mended.';
