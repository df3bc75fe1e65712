-- Work that a node refused may be offered to it again, because its agent says other things of
-- itself by now: another trust pattern, another driver.
-- locks: assignment (skip locked: what is locked is being placed or stopped)
create or replace function mooring_internal.forget_refusals(node_id int) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  update mooring.assignment a
     set refused_by = array_remove(a.refused_by, forget_refusals.node_id),
         signature = mooring_internal.queue_signature(
           d.signature, array_remove(a.refused_by, forget_refusals.node_id))
    from mooring.deployment d
   where d.id = a.deployment_id
     and a.id = any (array(
       select l.id
         from mooring.assignment l
        where forget_refusals.node_id = any (l.refused_by)
          for no key update skip locked));
end;
$$;
comment on function mooring_internal.forget_refusals(int) is
  'Offers the node again what its agent has refused.';
