-- One sentence per pending signature. The reason is the first predicate, in the order in which they
-- are asked, that leaves no node; the sentence adds the way out. without_node: the answer as if
-- that node were lost, for the work it would leave behind too.
create or replace function mooring_internal.pending_reasons(
  without_node int default null
) returns table (signature uuid, reason text)
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
begin atomic
  with waiting as materialized (
    select w.signature, w.deployment_id, w.refused_by
      from mooring_internal.pending_signatures(pending_reasons.without_node) w
  ),
  alike as materialized (
    select l.deployment_id, l.representative
      from mooring_internal.eligibility_groups(
        (select array_agg(distinct w.deployment_id) from waiting w)) l
  ),
  fit as materialized (
    select e.deployment_id, e.node_id,
        case
          when not e.pin_ok then 1
          when not e.selector_ok then 2
          when not e.driver_ok then 3
          when not e.trust_ok then 4
          when not e.urls_ok then 5
          else 6
        end as permitted_to,
        case
          when not e.live or e.node_id is not distinct from pending_reasons.without_node then 7
          when not e.enabled then 8
          when not e.not_draining then 9
          when not e.has_room then 10
          when not e.disk_ok then 11
          else 12
        end as fit_to
      from mooring_internal.eligibility(
        (select array_agg(distinct l.representative) from alike l)) e
  ),
  -- how far each node gets; the rule at which the last of them falls is the reason
  fallen as (
    select w.signature, w.deployment_id,
        case
          when f.node_id is null then 0
          when f.permitted_to < 6 then f.permitted_to
          when f.node_id = any (w.refused_by) then 6
          else f.fit_to
        end as rule,
        array_agg(f.node_id) as node_ids
      from waiting w
      join alike l on l.deployment_id = w.deployment_id
      left join fit f on f.deployment_id = l.representative
     group by 1, 2, 3
  )
  select distinct on (f.signature)
      f.signature,
      mooring_internal.pending_reason_text(d, f.rule, f.node_ids)
    from fallen f
    join mooring.deployment d on d.id = f.deployment_id
   order by f.signature, f.rule desc;
end;
comment on function mooring_internal.pending_reasons(int) is
  'For each pending signature: why it is not placed, and the way out. '
  'without_node: as if that node were lost.';
