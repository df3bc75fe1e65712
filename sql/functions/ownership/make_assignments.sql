-- Makes rows what their deployments of type deployment want, whatever the rows were before:
--   a deployment has as many rows as replicas, see surplus_assignments()
--   a row that is owned and no longer wanted is ordered to stop; it keeps its row, and so its
--   fence, until its process is gone
--   a row that is pending and no longer wanted is deleted
-- locks: assignment rows of these deployments, in order of id
--   (no key update, which does not disturb assert_owner() of a workload)
create or replace function mooring_internal.make_assignments(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  unwanted bigint[];
begin
  -- waits for a transaction that releases or claims one of these rows, so that every statement
  -- below sees its result
  perform from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
   order by a.id
     for no key update;
  unwanted := mooring_internal.surplus_assignments(make_assignments.deployments);
  delete from mooring.assignment a
   where a.id = any (unwanted) and a.node_id is null;
  with judged as materialized (
    select b.id, d.id is null as is_deleted, not d.enabled as is_disabled,
        b.id = any (unwanted) as is_surplus,
        -- a row that stops only for a move stops for good now
        b.wanted = 'run' or b.move_reason is not null as goes_on
      from mooring.assignment b
      left join mooring.deployment d on d.id = b.deployment_id and d.type = 'deployment'
     where b.deployment_id = any (make_assignments.deployments)
       and b.ordinal is not null
       and b.node_id is not null
  ),
  stopping as (
    update mooring.assignment a
       set surplus = j.is_surplus,
           wanted = 'stop', move_to = null, move_reason = null,
           stop_reason = case when j.is_deleted then 'its deployment was deleted'
                              when j.is_disabled then 'its deployment is disabled'
                              else 'its deployment was scaled down' end
      from judged j
     where a.id = j.id and j.goes_on and (j.is_surplus or j.is_disabled)
    returning a.*
  ),
  -- what stops already goes for good, or comes back because its deployment wants more again
  counted as (
    update mooring.assignment a
       set surplus = j.is_surplus
      from judged j
     where a.id = j.id
       and a.surplus <> j.is_surplus
       and not (j.goes_on and (j.is_surplus or j.is_disabled))
  )
  insert into mooring.event (
    kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
  select 'stop_wanted', s.id, s.deployment_id, s.node_id, n.name, s.epoch, s.stop_reason,
      (select mooring_internal.actor())
    from stopping s
    left join mooring.node n on n.id = s.node_id
   order by s.id;
  perform mooring_internal.requeue(make_assignments.deployments);
  perform mooring_internal.insert_missing_assignments(make_assignments.deployments);
end;
$$;
comment on function mooring_internal.make_assignments(bigint[]) is
  'Makes the assignments of these deployments what their specs want.';
