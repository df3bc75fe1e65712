-- Makes rows what their deployments of type deployment want, whatever the rows were before:
--   an ordinal below replicas gets a row
--   a row that is owned and no longer wanted is ordered to stop; it keeps its row, and so its
--   fence, until its process is gone
--   a row that is pending and no longer wanted is deleted
-- locks: assignment rows of these deployments, in order of id
--   (no key update, which does not disturb assert_owner() of a workload)
create or replace function mooring_internal.make_assignments(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  -- waits for a transaction that releases or claims one of these rows, so that every statement
  -- below sees its result
  perform from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
   order by a.id
     for no key update;
  delete from mooring.assignment a
   where a.deployment_id = any (make_assignments.deployments)
     and a.node_id is null
     and not exists (
       select from mooring.deployment d
        where d.id = a.deployment_id and d.type = 'deployment' and a.ordinal < d.replicas);
  with stopping as (
    update mooring.assignment a
       set wanted = 'stop', move_to = null, move_reason = null,
           stop_reason = case when d.id is null then 'its deployment was deleted'
                              when not d.enabled then 'its deployment is disabled'
                              else 'its deployment was scaled down' end
      from mooring.assignment b
      left join mooring.deployment d on d.id = b.deployment_id and d.type = 'deployment'
     where b.deployment_id = any (make_assignments.deployments)
       and a.id = b.id
       and a.node_id is not null
       and a.ordinal is not null
       -- a row that stops only for a move stops for good now
       and (a.wanted = 'run' or a.move_reason is not null)
       and (d.id is null or not d.enabled or a.ordinal >= d.replicas)
    returning a.*
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
