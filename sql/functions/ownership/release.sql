-- Takes assignments from their owners. It is the one way out of ownership: report (stopped,
-- refused), leave and reap use it.
-- The deployment as it is now decides what becomes of a row: pending, pending and stopped
-- (disabled), or deleted (deployment deleted or scaled down, or a daemon). README.md tells how
-- that works for a deployment inserted again and for a handover.
-- Rows locked elsewhere, by assert_owner() for example, are skipped; the result shows which.
-- The epoch is compared under the lock. Between the caller's read and this lock, another
-- transaction may have released the row and given it to another node.
-- locks: assignment rows, run (both skip locked)
create or replace function mooring_internal.release(
  ids bigint[],
  epochs bigint[],
  kind text,
  reason text
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- Sets of thousands meet here, and the planner does not know their sizes. Hash joins of what
  -- index scans by array find grow with the sets, a nested loop with their product.
  set enable_nestloop = off
as $$
declare
  locked bigint[];
  deployments bigint[];
  freed bigint;
  daemons bigint[];
  daemon_nodes int[];
  -- locked rows that stand beside their replica
  handover_ids bigint[];
  -- locked replicas that have a row beside them, and the ids of those rows
  succeeded bigint[];
  successors bigint[];
  -- read once, not for each row
  first_epoch bigint := mooring_internal.next_epoch(0);
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using errcode = 'MR008',
      message = 'releasing needs isolation level read committed',
      hint = 'With another level it would read the deployment as it was before the row was locked.';
  end if;
  select array_agg(l.id),
      array_agg(l.deployment_id),
      array_agg(l.deployment_id) filter (where l.ordinal is null),
      array_agg(l.node_id) filter (where l.ordinal is null),
      array_agg(l.id) filter (where l.handover is not null)
    into locked, deployments, daemons, daemon_nodes, handover_ids
    from (select a.id, a.deployment_id, a.ordinal, a.node_id, a.handover
            from unnest(release.ids, release.epochs) o (id, epoch)
            join mooring.assignment a on a.id = o.id and a.epoch = o.epoch
           where a.id = any (release.ids) and a.node_id is not null
           order by a.id
             for update of a skip locked) l;
  if locked is null then
    return;
  end if;
  select array_agg(c.replica), array_agg(c.id) into succeeded, successors
    from mooring_internal.handover_rows() c
   where c.replica = any (locked) and c.id <> all (locked);
  if successors is not null then
    successors := array(
      select l.id
        from mooring.assignment l
       where l.id = any (successors) and l.handover is not null
         for no key update skip locked);
    -- a replica stays owned while another transaction holds the row beside it, because a replica
    -- never waits beside a second row
    locked := array(
      select u.id
        from unnest(locked) u (id)
       where u.id <> all (succeeded)
          or u.id in (
            select c.replica
              from mooring_internal.handover_rows() c
             where c.id = any (successors)));
    succeeded := array(select u.id from unnest(succeeded) u (id) where u.id = any (locked));
  end if;
  -- the deployments are read by a new statement, after the lock: an edit that waits for this
  -- transaction has its turn afterwards
  return query
    with freed as (
      update mooring.assignment a
         set node_id = null,
             epoch = greatest(a.epoch + 1, first_epoch),
             wanted = case when d.enabled then 'run' else 'stop' end,
             stop_reason = null,
             owner_reason = release.reason,
             lease_ttl = null,
             assigned_at = null,
             -- a move goes on after its stop, unless its deployment was disabled meanwhile
             move_to = case when a.wanted = 'stop' and d.enabled then a.move_to end,
             move_reason = case when a.wanted = 'stop' and d.enabled then a.move_reason end,
             handover_failed_at = null,
             handover_error = null,
             last_node_id = a.node_id,
             waiting_since = clock_timestamp(),
             signature = mooring_internal.queue_signature(d.signature, a.refused_by)
        from mooring.deployment d
       where a.id = any (locked)
         and d.id = any (deployments)
         and d.id = a.deployment_id
         and d.type = 'deployment'
         and not a.surplus
         and a.handover is null
         and a.id <> all (coalesce(succeeded, '{}'))
      returning a.*
    ),
    logged as (
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
      select release.kind, f.id, f.deployment_id, n.id, n.name, f.epoch, release.reason,
          (select mooring_internal.actor())
        from freed f
        left join mooring.node n on n.id = f.last_node_id
    )
    select f.* from freed f;
  get diagnostics freed = row_count;
  if freed < cardinality(locked) then
    if handover_ids is not null or succeeded is not null then
      perform mooring_internal.end_handovers(
        handover_ids, succeeded, release.kind, release.reason);
    end if;
    -- rows that are still owned end here; this setting says that their owner is done with them,
    -- see tg_assignment__end_by_hand()
    perform set_config('mooring.owner_is_done', 'yes', true);
    return query
      with ended as (
        delete from mooring.assignment a
         where a.id = any (locked) and a.node_id is not null
        returning a.*
      ),
      logged as (
        insert into mooring.event (
          kind, assignment_id, deployment_id, node_id, node, epoch, reason, actor)
        select release.kind, e.id, e.deployment_id, n.id, n.name,
            greatest(e.epoch + 1, first_epoch), release.reason,
            (select mooring_internal.actor())
          from ended e
          left join mooring.node n on n.id = e.node_id
      )
      select e.* from ended e;
    perform set_config('mooring.owner_is_done', '', true);
    if successors is not null then
      update mooring.assignment a
         set handover = null
       where a.id = any (successors);
    end if;
  end if;
  -- an observation that another transaction writes or holds stays as it is: its epoch is old now
  update mooring.run r
     set state = case release.kind when 'reaped' then 'lost'
                                   when 'refused' then 'refused'
                                   else 'stopped' end,
         pid = null,
         next_start_at = null
   where r.assignment_id = any (array(
     select l.assignment_id
       from mooring.run l
      where l.assignment_id = any (locked)
        for update skip locked));
  if daemons is not null then
    -- daemons that stopped and are wanted again by now, and those that waited for their name
    perform mooring_internal.make_daemons(
      daemons || array(
        select w.deployment_id
          from mooring_internal.namesake w
         where w.waits_for = any (daemons)),
      daemon_nodes);
  end if;
  perform mooring_internal.enqueue('place');
end;
$$;
comment on function mooring_internal.release(bigint[], bigint[], text, text) is
  'Takes assignments, each under the epoch given, from their owners; their deployments decide what '
  'becomes of them. Returns those it could lock.';
