-- The rows beside the replicas. There are few at any time, and their own index finds them;
-- moves_under_way() tells why the planner is not left the choice.
create or replace function mooring_internal.handover_rows() returns table (
  id bigint,
  handover text,
  wanted text,
  deployment_id bigint,
  node_id int,
  replica bigint
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set enable_seqscan = off
  set enable_nestloop = on
as $$
#variable_conflict use_column
begin
  return query
    select c.id, c.handover, c.wanted, c.deployment_id, c.node_id, a.id
      from mooring.assignment c
      left join mooring.assignment a
        on a.deployment_id = c.deployment_id and a.ordinal = c.ordinal and a.handover is null
     where c.handover is not null;
end;
$$;
comment on function mooring_internal.handover_rows() is
  'The second rows of replicas that are being handed over, each with the replica it belongs to.';
