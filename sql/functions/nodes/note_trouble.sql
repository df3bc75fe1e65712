-- Notes what failed on nodes, a pair of node and deployment each. Deployment 0 stands for the node
-- itself, which was lost. Counting begins again after a quiet time of six times
-- setting.trouble_memory.
-- locks: node_trouble
create or replace function mooring_internal.note_trouble(node_ids int[], deployments bigint[])
  returns void
  language sql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  insert into mooring_internal.node_trouble as t (node_id, deployment_id, last_at)
  select distinct u.node_id, u.deployment_id, clock_timestamp()
    from unnest(note_trouble.node_ids, note_trouble.deployments) u (node_id, deployment_id)
    join mooring.setting s on s.trouble_memory is not null or s.move_after is not null
   order by u.node_id, u.deployment_id
  on conflict (node_id, deployment_id) do update
     set times = case
           when t.last_at < excluded.last_at - 6 * (
             select coalesce(s.trouble_memory, interval '10 min') from mooring.setting s)
             then 1
           else t.times + 1
         end,
         last_at = excluded.last_at;
end;
comment on function mooring_internal.note_trouble(int[], bigint[]) is
  'Remembers which deployments failed on which nodes. 0: the node itself was lost.';
