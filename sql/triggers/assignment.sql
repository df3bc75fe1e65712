-- Triggers of mooring.assignment.

-- Loads, history and hints follow the rows, whatever statement wrote them. Each epoch of a row is
-- recorded once, with the times that the row was given under its lock.
-- The name is read from heartbeat, not from node: this runs in every report, and DDL on node must
-- not block a report.
create or replace function mooring_internal.tg_assignment__follow() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- the plan is made once, for one row or for ten thousand; a loop never joins two sets of unknown
  -- size
  set enable_nestloop = off
as $$
declare
  owners int[];
begin
  -- the old and the new version of a row are joined once, because they are wide and all three
  -- statements below use the same few columns
  with pair as materialized (
    select n.id, n.epoch, n.deployment_id, n.ordinal, n.node_id, o.node_id as node_id_before,
        o.epoch as epoch_before, coalesce(n.assigned_at, n.waiting_since) as began_at,
        n.owner_reason
      from new_assignment n
      join old_assignment o on o.id = n.id
  ),
  -- owners before and after; a row that only changed its place in the queue has none
  owner as materialized (
    select p.node_id
      from pair p
     where p.node_id is not null
    union
    select p.node_id_before
      from pair p
     where p.node_id_before is not null
  ),
  name as materialized (
    select h.node_id, h.node
      from mooring.heartbeat h
     where h.node_id = any (array(select w.node_id from owner w))
  ),
  counted as (
    insert into mooring_internal.node_load (node_id, change)
    select c.node_id, sum(c.change)
      from (select p.node_id_before as node_id, -1 as change
              from pair p
             where p.node_id_before is not null and p.ordinal is not null
            union all
            select p.node_id, 1
              from pair p
             where p.node_id is not null and p.ordinal is not null) c
     group by c.node_id
    having sum(c.change) <> 0
  ),
  recorded as (
    insert into mooring.ownership (
      assignment_id, epoch, deployment_id, node_id, node, began_at, reason, actor)
    select p.id, p.epoch, p.deployment_id, p.node_id, m.node, p.began_at, p.owner_reason,
        (select mooring_internal.actor())
      from pair p
      left join name m on m.node_id = p.node_id
     where p.epoch <> p.epoch_before
  )
  select array_agg(w.node_id) into owners from owner w;
  perform mooring_internal.notify_nodes(owners);
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__follow() is
  'Keeps node_load, records each new epoch with its owner, and hints every node whose set changed, '
  'once per transaction.';
create or replace trigger tg_assignment__follow
  after update on mooring.assignment
  referencing old table as old_assignment new table as new_assignment
  for each statement
  execute function mooring_internal.tg_assignment__follow();

create or replace function mooring_internal.tg_assignment__follow_delete() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owners int[];
begin
  insert into mooring_internal.node_load (node_id, change)
  select o.node_id, -count(*)
    from old_assignment o
   where o.node_id is not null and o.ordinal is not null
   group by o.node_id;
  select array_agg(o.node_id) into owners from old_assignment o;
  perform mooring_internal.notify_nodes(owners);
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__follow_delete() is
  'Keeps node_load and hints the owner when an owned row ends.';
create or replace trigger tg_assignment__follow_delete
  after delete on mooring.assignment
  referencing old table as old_assignment
  for each statement
  execute function mooring_internal.tg_assignment__follow_delete();

-- A row that ends with an owner ends that ownership. A row that is born with an owner (a daemon's,
-- a successor's) begins one; a successor also counts as load and is hinted.
-- The trigger fires row by row, because such rows are few. An insert of 100,000 pending rows pays
-- only for one comparison a row.
create or replace function mooring_internal.tg_assignment__record_owned() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if tg_op = 'DELETE' then
    insert into mooring.ownership (assignment_id, epoch, deployment_id, began_at, reason)
    values (
      old.id, mooring_internal.next_epoch(old.epoch), old.deployment_id, clock_timestamp(),
      coalesce(old.stop_reason, 'its row was deleted'));
  else
    insert into mooring.ownership (
      assignment_id, epoch, deployment_id, node_id, node, began_at, reason)
    values (
      new.id, new.epoch, new.deployment_id, new.node_id,
      (select n.name from mooring.node n where n.id = new.node_id),
      new.assigned_at, new.owner_reason);
    if new.ordinal is not null then
      insert into mooring_internal.node_load (node_id, change)
      values (new.node_id, 1);
      perform mooring_internal.notify_nodes(array[new.node_id]);
    end if;
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_assignment__record_owned() is
  'Records, and counts, the owner of a row that is born with one, '
  'and the end of a row that ends with an owner.';
create or replace trigger tg_assignment__record_birth
  after insert on mooring.assignment
  for each row
  when (new.node_id is not null)
  execute function mooring_internal.tg_assignment__record_owned();
create or replace trigger tg_assignment__record_end
  after delete on mooring.assignment
  for each row
  when (old.node_id is not null)
  execute function mooring_internal.tg_assignment__record_owned();

-- A DBA may place or free a row by hand. Its epoch goes up, as for any other change of owner, and
-- never goes back. Two changes are refused, because the first owner may still run the row:
--   from one owner to another in one step
--   freeing it from an owner that may still run it: the next claim would start it a second time
-- A change is by hand when it does not raise the epoch or does not change owner_reason, because
-- each verb writes another owner_reason than the one before.
-- locks: the row itself, heartbeat (skip locked), and to place the placement lock (tried).
--   Waiting for it would deadlock with reassign() and restart(), which take it before the row.
create or replace function mooring_internal.tg_assignment__by_hand() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  wanted boolean;
begin
  if new.epoch < old.epoch then
    raise exception using errcode = 'MR006',
      message = format(
        'the epoch of assignment %s cannot go back from %s to %s', old.id, old.epoch, new.epoch),
      hint = 'Leave epoch out: it goes up by itself.';
  end if;
  if old.node_id is not null and new.node_id is not null then
    raise exception using errcode = 'MR006',
      message = format('assignment %s cannot go from one owner to another in one step', old.id),
      hint = 'The first may still run it. '
        'Disable the first node or its deployment, or change the pin, and let it stop.';
  end if;
  if new.node_id is not null then
    if not mooring_internal.try_lock_placement() then
      raise exception using errcode = 'MR004',
        message = format(
          'assignment %s cannot be placed by hand: another transaction is placing', old.id),
        detail = format('pid %s holds placement', mooring_internal.placement_lock_holder()),
        hint = format(
          'Try again, or use mooring.reassign(%s, ...), which waits. By hand you wait with: '
          'begin; select mooring_internal.lock_placement(must_wait => true); and then the update.',
          old.id);
    end if;
    perform mooring_internal.lock_placement(must_wait => true);
    if not exists (select from mooring.node n where n.id = new.node_id) then
      raise exception using errcode = 'MR003',
        message = format('there is no node with id %s', new.node_id),
        hint = 'See node_id in mooring.node_status.';
    end if;
    new.lease_ttl := coalesce(
      new.lease_ttl,
      (select d.lease_ttl from mooring.deployment d where d.id = new.deployment_id),
      (select s.lease_ttl from mooring.setting s));
    new.assigned_at := clock_timestamp();
    new.waiting_since := null;
    -- the promise of another place ends; otherwise that place would be kept, and counted among the
    -- moves of the node the move came from, for ever
    new.move_to := null;
    new.move_reason := null;
  else
    if mooring_internal.owner_may_run(old) then
      raise exception using errcode = 'MR006',
        message = format('assignment %s cannot be freed: its owner may still run it', old.id),
        hint = format(
          'Let the owner stop it: update mooring.assignment set wanted = ''stop'' where id = %s. '
          'To choose where it goes next: mooring.reassign(). '
          'A dead owner loses it by itself when lease and margin have ended.',
          old.id);
    end if;
    perform mooring_internal.raise_if_freed_in_handover(old);
    perform mooring_internal.limit_idle();
    -- the deployment decides what becomes of the row, as in release(); if there is no deployment
    -- any more, the evict round deletes the row
    wanted := exists (
      select from mooring.deployment d
       where d.id = old.deployment_id
         and d.type = 'deployment'
         and d.enabled
         and not old.surplus);
    new.wanted := case when wanted then 'run' else 'stop' end;
    new.surplus := false;
    new.stop_reason := null;
    if not wanted or old.wanted = 'run' then
      new.move_to := null;
      new.move_reason := null;
    end if;
    new.handover_failed_at := null;
    new.handover_error := null;
    new.lease_ttl := null;
    new.assigned_at := null;
    new.waiting_since := clock_timestamp();
    new.last_node_id := old.node_id;
  end if;
  new.epoch := mooring_internal.next_epoch(old.epoch);
  new.owner_reason := 'by hand';
  insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason)
  select case when new.node_id is null then 'released' else 'claimed' end,
      new.id, new.deployment_id, n.id, n.name, new.epoch, new.owner_reason
    from (select coalesce(new.node_id, old.node_id) as id) o
    left join mooring.node n on n.id = o.id;
  return new;
end;
$$;
comment on function mooring_internal.tg_assignment__by_hand() is
  'A plain UPDATE of the owner that writes no new owner_reason raises the epoch. It is refused '
  'from owner to owner, and while the owner may still run the assignment.';
create or replace trigger tg_assignment__by_hand
  before update on mooring.assignment
  for each row
  when (
    new.epoch < old.epoch
    or new.node_id is distinct from old.node_id
    and (new.epoch = old.epoch or new.owner_reason is not distinct from old.owner_reason))
  execute function mooring_internal.tg_assignment__by_hand();

-- A delete of an owned row by hand frees it by hand. With a live owner, the row that replaces it
-- would be given away while the old process still runs, and nothing would be left to fence that.
-- release() and the delete of a node delete rows whose processes are gone. They say so by setting
-- mooring.owner_is_done around the statement. (In the head of a function only a superuser may name
-- such a setting, and the owner of the schema need not be one.)
-- locks: heartbeat (skip locked)
create or replace function mooring_internal.tg_assignment__end_by_hand() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if mooring_internal.owner_may_run(old) then
    raise exception using errcode = 'MR006',
      message = format('assignment %s cannot be deleted: its owner may still run it', old.id),
      hint = format(
        'Disable or delete deployment %s, or scale it down: the owner stops it, '
        'and the row goes when its processes are gone. '
        'A dead owner loses it by itself when lease and margin have ended.',
        old.deployment_id);
  end if;
  perform mooring_internal.raise_if_freed_in_handover(old);
  perform mooring_internal.limit_idle();
  return old;
end;
$$;
comment on function mooring_internal.tg_assignment__end_by_hand() is
  'An owned row is not deleted by hand while its owner may still run it.';
create or replace trigger tg_assignment__end_by_hand
  before delete on mooring.assignment
  for each row
  when (
    old.node_id is not null
    and coalesce(current_setting('mooring.owner_is_done', true), '') = '')
  execute function mooring_internal.tg_assignment__end_by_hand();
