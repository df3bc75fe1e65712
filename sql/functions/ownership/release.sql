-- release: takes assignments from their owners. The one way out of ownership, used by report (stopped, refused), leave and reap.
-- What becomes of a row is read from its deployment as it is now: pending again, pending and stopped (disabled), or gone (deleted, scaled
-- down, a daemon's). So a deployment deleted and inserted again under the same id simply finds its row waiting once the process is gone.
-- Of a replica that is being handed over two rows are there: the copy just ends, and where the replica is released first, its copy becomes the replica, running
-- or stopping. So a successor takes over from a dead node at once, and a deployment inserted again waits for both.
-- A row held by assert_owner() or a stranger is skipped; the caller sees by what is returned. The epoch is compared under the lock: between
-- the caller's look and ours the row may have been freed by somebody else and given to another node.
-- locks: assignment rows, run (both skip locked)
create or replace function mooring_internal.release(ids bigint[], epochs bigint[], kind text, reason text) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- sets of thousands meet here, and their sizes are not known when the plan is made: hash joins of what index scans by array find grow
  -- with the sets, a nested loop with their product
  set enable_nestloop = off
as $$
declare
  locked bigint[];
  deployments bigint[];
  freed bigint;
  daemons bigint[];
  -- of start-first work: those that are no replica, the replicas that leave a copy behind, and these copies
  copies bigint[];
  relieved bigint[];
  heirs bigint[];
  hosts int[];
  -- read once, not for each row
  first_epoch bigint := mooring_internal.next_epoch(0);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'MR008', message = 'releasing needs isolation level read committed', hint = 'With another level it would read the deployment as it was before the row was locked.';
  end if;
  select array_agg(l.id), array_agg(l.deployment_id), array_agg(l.deployment_id) filter (where l.ordinal is null), array_agg(l.node_id) filter (where l.ordinal is null), array_agg(l.id) filter (where l.handover is not null)
    into locked, deployments, daemons, hosts, copies
    from (select a.id, a.deployment_id, a.ordinal, a.node_id, a.handover
            from unnest(release.ids, release.epochs) o (id, epoch) join mooring.assignment a on a.id = o.id and a.epoch = o.epoch
           where a.id = any (release.ids) and a.node_id is not null
           order by a.id for update of a skip locked) l;
  if locked is null then
    return;
  end if;
  select array_agg(c.replica), array_agg(c.id) into relieved, heirs from mooring_internal.handover_rows() c where c.replica = any (locked) and c.id <> all (locked);
  if heirs is not null then
    heirs := array(select l.id from mooring.assignment l where l.id = any (heirs) and l.handover is not null for no key update skip locked);
    -- who leaves a copy that somebody holds at the moment is left too: a replica never waits beside its copy
    locked := array(select u.id from unnest(locked) u (id) where u.id <> all (relieved) or u.id in (select c.replica from mooring_internal.handover_rows() c where c.id = any (heirs)));
    relieved := array(select u.id from unnest(relieved) u (id) where u.id = any (locked));
  end if;
  -- the deployments are read by a new statement, after the lock: an edit that waited for us has its turn afterwards
  return query
    with freed as (
      update mooring.assignment a
         set node_id = null, epoch = greatest(a.epoch + 1, first_epoch), wanted = case when d.enabled then 'run' else 'stop' end, stop_reason = null, owner_reason = release.reason, lease_ttl = null, assigned_at = null,
             -- a move goes on where its stop ends, but a deployment that was disabled meanwhile has called it off
             move_to = case when a.wanted = 'stop' and d.enabled then a.move_to end, move_reason = case when a.wanted = 'stop' and d.enabled then a.move_reason end,
             handover_failed_at = null, handover_error = null, last_node_id = a.node_id, waiting_since = clock_timestamp(), signature = mooring_internal.queue_signature(d.signature, a.refused_by)
        from mooring.deployment d
       where a.id = any (locked) and d.id = any (deployments) and d.id = a.deployment_id and d.type = 'deployment' and a.ordinal < d.replicas and a.handover is null and a.id <> all (coalesce(relieved, '{}'))
      returning a.*
    ),
    logged as (
      insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select release.kind, f.id, f.deployment_id, n.id, n.name, f.epoch, release.reason, (select mooring_internal.actor()) from freed f left join mooring.node n on n.id = f.last_node_id
    )
    select f.* from freed f;
  get diagnostics freed = row_count;
  if freed < cardinality(locked) then
    if copies is not null or relieved is not null then
      perform mooring_internal.end_handovers(copies, relieved, release.kind, release.reason);
    end if;
    -- what is still owned has nothing to come back for, and its owner is done with it, see tg_assignment__end_by_hand()
    perform set_config('mooring.owner_is_done', 'yes', true);
    return query
      with ended as (
        delete from mooring.assignment a where a.id = any (locked) and a.node_id is not null returning a.*
      ),
      logged as (
        insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
        select release.kind, e.id, e.deployment_id, n.id, n.name, greatest(e.epoch + 1, first_epoch), release.reason, (select mooring_internal.actor()) from ended e left join mooring.node n on n.id = e.node_id
      )
      select e.* from ended e;
    perform set_config('mooring.owner_is_done', '', true);
    if heirs is not null then
      update mooring.assignment a set handover = null where a.id = any (heirs);
    end if;
  end if;
  -- an observation that is being written at the moment, or that a stranger holds, is left as it is: it is of an old epoch now
  update mooring.run r
     set state = case release.kind when 'reaped' then 'lost' when 'refused' then 'refused' else 'stopped' end, pid = null, next_start_at = null
   where r.assignment_id = any (array(select l.assignment_id from mooring.run l where l.assignment_id = any (locked) for update skip locked));
  if daemons is not null then
    -- stopped, and wanted again in the meantime
    perform mooring_internal.make_daemons(daemons, hosts);
  end if;
  perform mooring_internal.enqueue('place');
end;
$$;
comment on function mooring_internal.release(bigint[], bigint[], text, text) is 'Takes assignments, each under the epoch given, from their owners and decides from their deployments what becomes of them; returns those it could lock.';
