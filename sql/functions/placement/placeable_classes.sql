-- What a node would leave behind if it were gone: its work, as release() would leave it. Daemons end with their node, and what is to stop for good ends too.
-- A move goes on to where it was to go, as far as that can be had; a restart on the node that is gone cannot. Of what is being handed over nothing has to be placed: the copy
-- just ends, and the replica has a successor.
create or replace function mooring.left_behind(node_id int)
  returns table (id bigint, deployment_id bigint, signature uuid, refused_by int[], replicated boolean, move_to int, move_reason text, updated_at timestamptz, created_at timestamptz)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
  -- found by array and joined by hash, as in release(): without statistics a loop would look at a thousand rows for each deployment
  set enable_nestloop = off
  set jit = off
as $$
#variable_conflict use_column
begin
  return query
    select a.id, a.deployment_id, mooring.queue_signature(d.signature, a.refused_by), a.refused_by, d.replicas > 1, case when a.wanted = 'stop' then nullif(a.move_to, a.node_id) end, case when a.wanted = 'stop' then a.move_reason end, a.updated_at, a.created_at
      from mooring.assignment a
      join mooring.deployment d on d.id = a.deployment_id and d.enabled and d.type = 'deployment' and a.ordinal < d.replicas
     where a.node_id = left_behind.node_id and a.handover is null and d.id = any (array(select b.deployment_id from mooring.assignment b where b.node_id = left_behind.node_id))
       and a.id <> all (array(select c.replica from mooring.copies() c where c.handover = 'arriving' and c.wanted = 'run' and c.replica is not null));
end;
$$;
comment on function mooring.left_behind(int) is 'What of a node would have to be placed elsewhere if it were gone.';

-- What waits, one row per signature: a loose index scan, as many index probes as there are distinct signatures, however many rows wait.
-- without_node: as if that node were gone, and what it runs had been released.
create or replace function mooring.waiting_signatures(without_node int default null) returns table (signature uuid, deployment_id bigint, refused_by int[])
  language plpgsql stable security definer rows 50
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  return query
    with recursive waiting as (
      (select a.signature, a.deployment_id, a.refused_by
         from mooring.assignment a
        where a.node_id is null and a.wanted = 'run'
        order by a.signature limit 1)
      union all
      select n.signature, n.deployment_id, n.refused_by
        from waiting w
       cross join lateral (
         select a.signature, a.deployment_id, a.refused_by
           from mooring.assignment a
          where a.node_id is null and a.wanted = 'run' and a.signature > w.signature
          order by a.signature limit 1) n
    )
    select w.signature, w.deployment_id, w.refused_by from waiting w;
  if waiting_signatures.without_node is not null then
    return query
      select l.signature, l.deployment_id, l.refused_by
        from (select b.signature, min(b.deployment_id) as deployment_id, b.refused_by
                from mooring.left_behind(waiting_signatures.without_node) b where b.move_to is null group by b.signature, b.refused_by) l
       where not exists (select from mooring.assignment a where a.node_id is null and a.wanted = 'run' and a.signature = l.signature);
  end if;
end;
$$;
comment on function mooring.waiting_signatures(int) is 'Each distinct signature among pending assignments, with one deployment that has it.';

-- What waits and can go somewhere: signatures grouped by policy and the set of nodes that are eligible for them, the tightest group first.
-- Work no node can take is absent, so it costs nothing however much of it stands in front of the queue.
create or replace function mooring.placeable(without_node int default null) returns setof mooring.placement_class
  language plpgsql stable security definer rows 20
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return query
    with waiting as materialized (
      select w.signature, w.deployment_id, w.refused_by, coalesce(d.policy, s.default_policy) as policy
        from mooring.waiting_signatures(placeable.without_node) w
        join mooring.deployment d on d.id = w.deployment_id
       cross join mooring.setting s
        join mooring.policy p on p.name = coalesce(d.policy, s.default_policy) and p.kind <> 'none'
    ),
    alike as materialized (
      select l.deployment_id, l.representative from mooring.alike((select array_agg(distinct w.deployment_id) from waiting w)) l
    ),
    fit as materialized (
      select e.deployment_id, array_agg(e.node_id order by e.node_id) as node_ids
        from mooring.eligibility((select array_agg(distinct l.representative) from alike l)) e
       where e.eligible and e.node_id is distinct from placeable.without_node
       group by e.deployment_id
    ),
    open as (
      select w.policy, w.signature, case when w.refused_by = '{}' then f.node_ids else array(select n.id from unnest(f.node_ids) n (id) where n.id <> all (w.refused_by) order by n.id) end as node_ids
        from waiting w join alike l on l.deployment_id = w.deployment_id join fit f on f.deployment_id = l.representative
    )
    select o.policy, array_agg(o.signature), o.node_ids
      from open o
     where o.node_ids <> '{}'
     group by o.policy, o.node_ids
     order by cardinality(o.node_ids), o.node_ids, o.policy;
end;
$$;
comment on function mooring.placeable(int) is 'Pending work that has an eligible node with room, grouped by policy and node set.';
