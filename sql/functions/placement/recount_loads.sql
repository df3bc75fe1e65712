-- node_load is kept by triggers. What went past them (a TRUNCATE or a restore of the table, edits under session_replication_role = replica) would make a node look full, or empty, for ever.

-- A change of an owner and of node_load are one transaction, so in one snapshot the two never differ by what is under way.
-- locks: none
create or replace function mooring.loads_astray() returns table (node_id int, kept int, counted int)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  return query
    select coalesce(l.node_id, c.node_id), coalesce(l.assigned, 0), coalesce(c.assigned, 0)
      from mooring.node_assigned() l
      full join (select a.node_id, count(*)::int as assigned from mooring.assignment a where a.node_id is not null and a.ordinal is not null group by a.node_id) c on c.node_id = l.node_id
     where coalesce(l.assigned, 0) <> coalesce(c.assigned, 0);
end;
$$;
comment on function mooring.loads_astray() is 'Nodes whose load in node_load is not the number of assignments they own; the evict round mends them.';

-- The difference is appended, as every change is. Two at once would both append it, and a claim would place by wrong loads meanwhile: only under the placement lock, which
-- is tried and not waited for, because the round holds assignment rows by now.
-- locks: placement (tried)
create or replace function mooring.recount_loads() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  mended int;
begin
  if not exists (select from mooring.loads_astray()) or current_setting('transaction_isolation') <> 'read committed' or not pg_try_advisory_xact_lock(mooring.lock_space(), mooring.lock_key('placing')) then
    return 0;
  end if;
  with astray as materialized (
    select l.node_id, l.kept, l.counted from mooring.loads_astray() l
  ),
  mended as (
    insert into mooring.node_load (node_id, change) select a.node_id, a.counted - a.kept from astray a
  )
  insert into mooring.event (kind, node_id, node, reason, detail)
  select 'load_recounted', a.node_id, n.name, 'node_load was not what the node owns', jsonb_build_object('from', a.kept, 'to', a.counted) from astray a left join mooring.node n on n.id = a.node_id order by a.node_id;
  get diagnostics mended = row_count;
  return mended;
end;
$$;
comment on function mooring.recount_loads() is 'Makes node_load what the nodes own, where it is not; returns for how many.';
