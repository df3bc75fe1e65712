-- The rows that their deployments do not want: all rows of a deleted deployment, and of one that
-- was scaled down those beyond replicas. A replica that serves stays as long as possible. The
-- first to go are, in this order:
--   what waits, what stops or moves, what fails, what is on a silent node, what starts,
--   the second instance on a node, the highest ordinal
-- A process that was started again within the last minute fails, although it runs at the moment.
-- A survivor keeps its ordinal, because its process has it in its environment.
-- Rows of a handover go with their replica.
-- locks: none; the caller has locked the rows
create or replace function mooring_internal.surplus_assignments(deployments bigint[])
  returns bigint[]
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- joined by hash, as in release(): a set of thousands comes without statistics
  set enable_nestloop = off
  set jit = off
return array(
  with own as materialized (
    select a.id, a.deployment_id, a.ordinal, a.node_id, a.epoch, a.wanted, a.handover, d.replicas
      from mooring.assignment a
      left join mooring.deployment d
        on d.id = a.deployment_id
       and d.type = 'deployment'
       and d.id = any (surplus_assignments.deployments)
     where a.deployment_id = any (surplus_assignments.deployments) and a.ordinal is not null
  ),
  -- only these are ranked: few edits scale down
  crowded as materialized (
    select o.deployment_id
      from own o
     where o.replicas is not null
     group by o.deployment_id, o.replicas
    having count(distinct o.ordinal) > o.replicas
  ),
  replica as materialized (
    select distinct on (o.deployment_id, o.ordinal) o.*
      from own o
     where o.deployment_id in (select c.deployment_id from crowded c)
     order by o.deployment_id, o.ordinal, o.handover nulls first
  ),
  graded as (
    select p.deployment_id, p.ordinal, p.node_id, p.replicas,
        case when p.node_id is null then 5
             when p.wanted = 'stop' then 4
             when r.state in ('backoff', 'failed', 'refused')
               or r.restarts > 0 and r.last_active_at > clock_timestamp() - interval '1 minute'
               then 3
             when not mooring_internal.node_is_live(h) then 2
             when r.state is distinct from 'running' then 1
             else 0
             end as grade
      from replica p
      left join mooring.run r on r.assignment_id = p.id and r.epoch = p.epoch
      left join mooring.heartbeat h on h.node_id = p.node_id
  ),
  twinned as (
    select g.*,
        row_number() over (
          partition by g.deployment_id, g.node_id
              order by g.grade, g.ordinal) > 1 as is_twin
      from graded g
  ),
  ranked as (
    select w.*,
        row_number() over (
          partition by w.deployment_id
              order by w.grade, w.is_twin, w.ordinal) as rank
      from twinned w
  )
  select o.id
    from own o
   where o.replicas is null
  union all
  select o.id
    from own o
    join ranked k on k.deployment_id = o.deployment_id and k.ordinal = o.ordinal
   where k.rank > k.replicas);
comment on function mooring_internal.surplus_assignments(bigint[]) is
  'The rows of these deployments that are not wanted: of deleted ones all, of others what is '
  'beyond replicas. What serves stays.';
