-- Nodes that get less than their weight at the moment, each with its share between 0 and 1:
--   several deployments fail there: 1 / (1 + their number); one that fails alone is at fault itself
--   the node was lost: half of it, which grows to the whole within trouble_memory after its return;
--   each further loss halves it again, to 0.05 at least, and makes the time longer, to six times
-- The share only lowers the weight. So a node that is the last one left still gets work.
create or replace function mooring_internal.shares_of_troubled_nodes() returns table (
  node_id int,
  share float8,
  failing bigint[],
  losses int
)
  language sql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select f.node_id,
      case when cardinality(f.failing) > 1 then 1.0 / (1 + cardinality(f.failing)) else 1 end
        * coalesce(f.returned, 1) as share,
      case when cardinality(f.failing) > 1 then f.failing end as failing,
      f.losses
    from (
      select t.node_id,
          array_agg(t.deployment_id order by t.deployment_id)
            filter (where t.deployment_id > 0 and t.last_at > clock_timestamp() - s.trouble_memory)
            as failing,
          max(t.times) filter (where t.deployment_id = 0) as losses,
          min(r.share) as returned
        from mooring_internal.node_trouble t
       cross join mooring.setting s
        left join mooring.heartbeat h on h.node_id = t.node_id and t.deployment_id = 0
       cross join lateral (
         select case when t.deployment_id = 0 then least(1, greatest(0.05, 0.5 ^ t.times,
             extract(epoch from clock_timestamp() - greatest(t.last_at, h.session_at))
               / extract(epoch from s.trouble_memory * least(t.times, 6))))
             end as share) r
       where s.trouble_memory is not null
       group by t.node_id) f
   where cardinality(f.failing) > 1 or f.returned < 1;
end;
comment on function mooring_internal.shares_of_troubled_nodes() is
  'Nodes on which several deployments fail, or that were lost lately, and the share of their '
  'weight that counts.';
