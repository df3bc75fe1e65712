-- Part of the evict round: an instance that failed setting.move_after times on its node stops there
-- and goes to another one. The node is remembered like one that refused it, so the instance does
-- not come back before its spec changes.
-- Three limits keep a broken release from touring the fleet: it moves three times at most, only
-- where another node could take it, and ten instances a round.
-- locks: assignment (skip locked)
create or replace function mooring_internal.move_failing() returns int
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  after int;
  moved int;
begin
  select s.move_after into after
    from mooring.setting s;
  if after is null
     or not exists (
       select from mooring_internal.node_trouble t
        where t.deployment_id > 0)
  then
    return 0;
  end if;
  with failing as materialized (
    select a.id, a.deployment_id, a.node_id, a.refused_by,
        greatest(r.restarts, case when r.state = 'failed' then t.times end) as times
      from mooring_internal.node_trouble t
      join mooring.assignment a on a.node_id = t.node_id and a.deployment_id = t.deployment_id
      join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
     where a.wanted = 'run'
       and a.ordinal is not null
       and a.handover is null
       and cardinality(a.refused_by) < 3
       and r.state in ('backoff', 'failed')
       and greatest(r.restarts, case when r.state = 'failed' then t.times end) >= after
  ),
  groups as materialized (
    select l.deployment_id, l.representative
      from mooring_internal.eligibility_groups(
        (select array_agg(distinct f.deployment_id) from failing f)) l
  ),
  fit as materialized (
    select e.deployment_id, e.node_id
      from mooring_internal.eligibility(
        (select array_agg(distinct g.representative) from groups g)) e
     where e.eligible
  ),
  locked as materialized (
    select a.id, f.times
      from failing f
      join mooring.assignment a on a.id = f.id
      join groups g on g.deployment_id = f.deployment_id
     where a.wanted = 'run'
       and a.node_id = f.node_id
       and exists (
         select from fit t
          where t.deployment_id = g.representative
            and t.node_id <> f.node_id
            and t.node_id <> all (f.refused_by))
     order by a.id
     limit 10
       for no key update of a skip locked
  ),
  stopping as (
    update mooring.assignment a
       set wanted = 'stop',
           stop_reason = format('it failed %s times on this node', l.times),
           move_to = null,
           move_reason = null,
           refused_by = array_append(a.refused_by, a.node_id),
           signature = mooring_internal.queue_signature(
             d.signature, array_append(a.refused_by, a.node_id))
      from locked l
     cross join mooring.deployment d
     where a.id = l.id and d.id = a.deployment_id and a.node_id <> all (a.refused_by)
    returning a.*
  ),
  logged as (
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select 'stop_wanted', s.id, s.deployment_id, s.node_id, n.name, s.epoch,
        s.stop_reason || ': another one takes it',
        (select mooring_internal.actor())
      from stopping s
      left join mooring.node n on n.id = s.node_id
     order by s.id
  )
  select count(*) into moved from stopping s;
  return moved;
end;
$$;
comment on function mooring_internal.move_failing() is
  'Orders the stop of instances that fail again and again where another node could take them; '
  'returns how many.';
