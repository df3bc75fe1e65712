-- Daemons: an instance on every node that is permitted to run it. Instances on other nodes are
-- ordered to stop. A daemon's row is never pending: it is born owned. A node that is disabled,
-- draining or about to leave keeps its daemons and gets no new ones.
-- locks: assignment (skip locked: the next evict round finds the rows that were skipped)
create or replace function mooring_internal.make_daemons(
  deployments bigint[] default null,
  nodes int[] default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owners int[];
begin
  if not exists (select from mooring.deployment d where d.type = 'daemon')
     and not exists (select from mooring.assignment a where a.ordinal is null) then
    return;
  end if;
  with desired as materialized (
    select e.deployment_id, e.node_id, d.signature, e.enabled and e.not_draining as takes_new,
        coalesce(d.lease_ttl, s.lease_ttl) as lease_ttl
      from mooring_internal.eligibility((
             select array_agg(d.id)
               from mooring.deployment d
              where d.type = 'daemon'
                and d.enabled
                and (make_daemons.deployments is null
                  or d.id = any (make_daemons.deployments)))) e
      join mooring.deployment d on d.id = e.deployment_id
     cross join mooring.setting s
     where e.permitted and (make_daemons.nodes is null or e.node_id = any (make_daemons.nodes))
  ),
  made as (
    insert into mooring.assignment (
      deployment_id, ordinal, signature, node_id, epoch, lease_ttl, owner_reason, assigned_at)
    select d.deployment_id, null, d.signature, d.node_id, mooring_internal.next_epoch(0),
        d.lease_ttl, 'a daemon runs on every permitted node', clock_timestamp()
      from desired d
     -- on conflict alone would wait for a transaction that changes the existing row
     where d.takes_new
       and d.deployment_id <> all (array(
             select w.deployment_id from mooring_internal.waiting_for_namesakes() w))
       and not exists (
             select from mooring.assignment a
              where a.ordinal is null
                and a.deployment_id = d.deployment_id
                and a.node_id = d.node_id)
     order by d.deployment_id, d.node_id
    on conflict (deployment_id, node_id)
     where ordinal is null do nothing
    returning *
  ),
  unwanted as materialized (
    select b.id,
        case when d.id is null then 'its deployment was deleted'
             when not d.enabled then 'its deployment is disabled'
             else 'it is no longer permitted on the node' end as reason
      from mooring.assignment b
      left join mooring.deployment d on d.id = b.deployment_id and d.type = 'daemon'
     where b.ordinal is null
       and b.wanted = 'run'
       and (make_daemons.deployments is null or b.deployment_id = any (make_daemons.deployments))
       and (make_daemons.nodes is null or b.node_id = any (make_daemons.nodes))
       and not exists (
         select from desired w
          where w.deployment_id = b.deployment_id and w.node_id = b.node_id)
       for no key update of b skip locked
  ),
  stopping as (
    update mooring.assignment a
       set wanted = 'stop', stop_reason = u.reason
      from unwanted u
     where a.id = u.id and a.wanted = 'run'
    returning a.*
  ),
  outdated as materialized (
    select b.id, w.signature
      from mooring.assignment b
      join desired w on w.deployment_id = b.deployment_id and w.node_id = b.node_id
     where b.ordinal is null and b.signature <> w.signature
       for no key update of b skip locked
  ),
  respecified as (
    update mooring.assignment a
       set signature = o.signature
      from outdated o
     where a.id = o.id
  ),
  logged as (
    insert into mooring.event (
      kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
    select c.kind, c.id, c.deployment_id, c.node_id, n.name, c.epoch, c.reason,
        (select mooring_internal.actor())
      from (select 'claimed' as kind, m.id, m.deployment_id, m.node_id, m.epoch,
                m.owner_reason as reason
              from made m
            union all
            select 'stop_wanted', s.id, s.deployment_id, s.node_id, s.epoch, s.stop_reason
              from stopping s) c
      left join mooring.node n on n.id = c.node_id
     order by c.id
  )
  select array_agg(m.node_id) into owners from made m;
  -- the rows are born owned without lock_placement(), which would have made the commit durable
  if owners is not null then
    perform mooring_internal.require_durable_commit();
  end if;
  perform mooring_internal.notify_nodes(owners);
end;
$$;
comment on function mooring_internal.make_daemons(bigint[], int[]) is
  'Makes the daemon instances of these deployments on these nodes (null: all) '
  'what specs and nodes want.';
