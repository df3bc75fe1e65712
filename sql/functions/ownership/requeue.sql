-- Pending rows follow a changed spec: nodes that refused the old spec may be chosen again, a failed
-- successor is tried again, and the row goes to the back of the queue.
-- Rows that run are not touched. So an uncommitted edit of a version or an environment holds up no
-- failover.
-- locks: assignment rows of these deployments that are pending, were refused or failed to hand over
create or replace function mooring_internal.requeue(deployments bigint[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring.assignment a
     set signature = d.signature,
         refused_by = '{}',
         handover_failed_at = null,
         handover_error = null,
         wanted = case when a.node_id is not null then a.wanted
                       when d.enabled then 'run'
                       else 'stop' end,
         move_to = case when a.node_id is not null or d.enabled then a.move_to end,
         move_reason = case when a.node_id is not null or d.enabled then a.move_reason end,
         updated_at = case when a.node_id is null and a.updated_at < d.updated_at then d.updated_at
                           else a.updated_at end
    from mooring.deployment d
   where a.deployment_id = any (requeue.deployments)
     and d.id = a.deployment_id
     and d.type = 'deployment'
     and a.ordinal is not null
     and (a.signature <> d.signature
       or a.refused_by <> '{}'
       or a.node_id is null
       or a.handover_failed_at is not null);
end;
$$;
comment on function mooring_internal.requeue(bigint[]) is
  'Lets pending work of these deployments follow the changed spec, '
  'and allows nodes that refused the old one.';
