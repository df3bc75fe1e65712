-- Pending work, one row per signature. A loose index scan: as many index probes as there are
-- distinct signatures, however many rows are pending.
-- without_node: as if that node were gone and its work had been released.
create or replace function mooring_internal.pending_signatures(without_node int default null)
  returns table (signature uuid, deployment_id bigint, refused_by int[])
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
        order by a.signature
        limit 1)
      union all
      select n.signature, n.deployment_id, n.refused_by
        from waiting w
       cross join lateral (
         select a.signature, a.deployment_id, a.refused_by
           from mooring.assignment a
          where a.node_id is null and a.wanted = 'run' and a.signature > w.signature
          order by a.signature
          limit 1) n
    )
    select w.signature, w.deployment_id, w.refused_by from waiting w;
  if pending_signatures.without_node is not null then
    return query
      select l.signature, l.deployment_id, l.refused_by
        from (select b.signature, min(b.deployment_id) as deployment_id, b.refused_by
                from mooring_internal.work_of_lost_node(pending_signatures.without_node) b
               where b.move_to is null
               group by b.signature, b.refused_by) l
       where not exists (
         select from mooring.assignment a
          where a.node_id is null and a.wanted = 'run' and a.signature = l.signature);
  end if;
end;
$$;
comment on function mooring_internal.pending_signatures(int) is
  'Each distinct signature among pending assignments, with one deployment that has it.';
