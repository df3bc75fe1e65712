-- The deployments with on_lost = 'keep' that stay with their silent nodes, because no live node
-- could take them now. Their processes run on without a lease, so a reap would only end them when
-- the node returns.
-- Work with on_lost = 'stop' has ended by then. It is freed, so that `unplaced` says why it waits.
create or replace function mooring_internal.work_with_nowhere_to_go(nodes int[]) returns bigint[]
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  kept bigint[];
  placeable bigint[];
begin
  kept := array(
    select d.id
      from mooring.deployment d
     where d.on_lost = 'keep'
       and d.id = any (array(
         select a.deployment_id
           from mooring.assignment a
          where a.node_id = any (work_with_nowhere_to_go.nodes)
            and a.ordinal is not null
            and a.wanted = 'run')));
  if kept = '{}' then
    return kept;
  end if;
  placeable := array(
    select l.deployment_id
      from mooring_internal.eligibility_groups(kept) l
     where l.representative in (
       select e.deployment_id
         from mooring_internal.eligibility(array(
           select distinct g.representative
             from mooring_internal.eligibility_groups(kept) g)) e
        where e.eligible));
  return array(select k.id from unnest(kept) k (id) where k.id <> all (placeable));
end;
$$;
comment on function mooring_internal.work_with_nowhere_to_go(int[]) is
  'Deployments with on_lost = keep that reap() leaves on these silent nodes, because no live node '
  'could take them.';
