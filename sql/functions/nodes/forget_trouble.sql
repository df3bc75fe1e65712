-- Part of the evict round: what was quiet for six times setting.trouble_memory is forgotten, and so
-- is what concerns a node or deployment that is gone.
-- locks: node_trouble (skip locked)
create or replace function mooring_internal.forget_trouble() returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.node_trouble t
   where (t.node_id, t.deployment_id) in (
     select l.node_id, l.deployment_id
       from mooring_internal.node_trouble l
      cross join mooring.setting s
      where l.last_at
          < clock_timestamp() - 6 * coalesce(s.trouble_memory, interval '10 min')
         or not exists (select from mooring.node n where n.id = l.node_id)
         or l.deployment_id > 0
           and not exists (select from mooring.deployment d where d.id = l.deployment_id)
        for update of l skip locked);
end;
comment on function mooring_internal.forget_trouble() is
  'Forgets what failed on nodes long ago.';
