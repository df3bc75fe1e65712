-- Triggers of mooring.node.

-- A DELETE of a node by hand holds the node's row before it waits for the placement lock, against
-- the order of forget_node(). When both run at once on one node, the server ends one of them as a
-- deadlock after a second, with nothing lost. The DELETE waits for the lock all the same, because a
-- claim in progress is no reason to fail.
create or replace function mooring_internal.tg_node__guard() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  owned int;
  daemons int;
  beat mooring.heartbeat;
begin
  if tg_op = 'DELETE' then
    -- under the placement lock no claim can give the node work between the count and the delete
    perform mooring_internal.lock_placement(must_wait => true);
    select count(*) into owned
      from mooring.assignment a
     where a.node_id = old.id and a.ordinal is not null;
    if owned > 0 then
      raise exception using errcode = 'MR006',
        message = format('node %s owns %s assignments', old.name, owned),
        hint = 'Stop its agent or wait until its lease is over; then delete it.';
    end if;
    select count(*) into daemons
      from mooring.assignment a
     where a.node_id = old.id and a.ordinal is null;
    if daemons > 0 then
      -- the row is locked, so that no beat comes between this read and the delete; a row that is
      -- locked elsewhere is beating now
      select h.* into beat
        from mooring.heartbeat h
       where h.node_id = old.id
         for update skip locked;
      if not found or beat.session is not null
         and beat.beat_at
           + greatest(
             beat.lease_ttl,
             (select max(a.lease_ttl) from mooring.assignment a where a.node_id = old.id))
           + (select s.reap_margin from mooring.setting s) >= clock_timestamp() then
        raise exception using errcode = 'MR006',
          message = format('node %s is live and runs %s daemons', old.name, daemons),
          hint = 'Stop its agent first; then delete it.';
      end if;
    end if;
    perform set_config('mooring.owner_is_done', 'yes', true);
    delete from mooring.assignment a
     where a.node_id = old.id and a.ordinal is null;
    perform set_config('mooring.owner_is_done', '', true);
    perform mooring_internal.add_event('node_forgotten', 'by an operator', old.id);
    return old;
  end if;
  if tg_op = 'UPDATE' and (new.id, new.name) is distinct from (old.id, old.name) then
    raise exception using errcode = 'MR006',
      message = format('node %s cannot be renamed', old.name),
      hint = 'Start an agent under the new name and delete this node when it owns nothing.';
  end if;
  perform mooring_internal.check_trust_pattern(new.trusts);
  if new.draining_since is null then
    -- a drain that ends by hand ends as undrain_node() ends it
    new.drain_to := null;
    new.drain_max_moves := null;
    new.drain_deadline_at := null;
    new.drain_total := null;
    new.drained_at := null;
  end if;
  if tg_op = 'UPDATE' then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end;
$$;
comment on function mooring_internal.tg_node__guard() is
  'A node keeps its name and has a valid trust pattern. It is not deleted while it owns replicas, '
  'or is live and runs daemons.';
create or replace trigger tg_node__guard_insert
  before insert on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();
create or replace trigger tg_node__guard_update
  before update on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();
create or replace trigger tg_node__guard_delete
  before delete on mooring.node
  for each row
  execute function mooring_internal.tg_node__guard();

create or replace function mooring_internal.tg_node__arrive() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  nodes int[];
begin
  select array_agg(n.id) into nodes from new_node n;
  if nodes is null then
    return null;
  end if;
  insert into mooring.heartbeat (node_id, node, role_name)
  select n.id, n.name, n.role_name from new_node n;
  insert into mooring.event (kind, node_id, node, reason)
  select 'node_added', n.id, n.name, 'a new node'
    from new_node n
   order by n.id;
  perform mooring_internal.make_daemons(nodes => nodes);
  return null;
end;
$$;
comment on function mooring_internal.tg_node__arrive() is
  'A new node gets its heartbeat row and its daemons, and an event says who added it.';
create or replace trigger tg_node__arrive
  after insert on mooring.node
  referencing new table as new_node
  for each statement
  execute function mooring_internal.tg_node__arrive();

create or replace function mooring_internal.tg_node__change() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  permits int[];
  opened int[];
  grows boolean;
begin
  select array_agg(n.id) filter (
        where (n.labels, n.trusts, n.drivers, n.agent_base_url, n.gateway_base_url)
          is distinct from (
            o.labels, o.trusts, o.drivers, o.agent_base_url, o.gateway_base_url)),
      array_agg(n.id) filter (
        where n.enabled and not o.enabled
           or n.draining_since is null and o.draining_since is not null
           or n.held_until is null and o.held_until is not null),
      bool_or((n.enabled, n.draining_since, n.weight, n.max_assignments)
        is distinct from (o.enabled, o.draining_since, o.weight, o.max_assignments))
    into permits, opened, grows
    from new_node n
    join old_node o on o.id = n.id;
  insert into mooring.event (kind, node_id, node, reason)
  select case when n.enabled then 'node_enabled' else 'node_disabled' end, n.id, n.name,
      'by an operator'
    from new_node n
    join old_node o on o.id = n.id
   where n.enabled <> o.enabled
   order by n.id;
  insert into mooring.event (kind, node_id, node, reason, detail)
  select 'node_changed', c.id, c.name,
      (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k),
      c.changes
    from (select n.id, n.name,
              jsonb_strip_nulls(jsonb_build_object(
                'weight', mooring_internal.change(o.weight, n.weight),
                'labels', mooring_internal.change(o.labels, n.labels),
                'max_assignments',
                mooring_internal.change(o.max_assignments, n.max_assignments),
                'agent_base_url', mooring_internal.change(o.agent_base_url, n.agent_base_url),
                'gateway_base_url',
                mooring_internal.change(o.gateway_base_url, n.gateway_base_url),
                'trusts', mooring_internal.change(o.trusts, n.trusts),
                'drivers', mooring_internal.change(o.drivers, n.drivers))) as changes
            from new_node n
            join old_node o on o.id = n.id) c
   where c.changes <> '{}'
   order by c.id;
  if exists (
    select from new_node n
      join old_node o on o.id = n.id
     where n.role_name
       is distinct from o.role_name) then
    -- the beats of these nodes wait until this transaction commits
    perform mooring_internal.limit_idle();
    update mooring.heartbeat h
       set role_name = n.role_name
      from new_node n
      join old_node o on o.id = n.id
     where h.node_id = n.id
       and n.role_name is distinct from o.role_name;
    insert into mooring.event (kind, node_id, node, reason, detail)
    select 'node_rebound', n.id, n.name,
        format('it now belongs to %s',
          coalesce('role ' || n.role_name, 'the role that registers it next')),
        jsonb_build_object('from', o.role_name, 'to', n.role_name)
      from new_node n
      join old_node o on o.id = n.id
     where o.role_name is not null
       and n.role_name is distinct from o.role_name
     order by n.id;
  end if;
  if permits is not null then
    perform mooring.evict(nodes => permits);
  end if;
  if permits is not null or opened is not null then
    perform mooring_internal.make_daemons(nodes => permits || opened);
  end if;
  if permits is not null or grows then
    perform mooring_internal.enqueue('place');
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_node__change() is
  'Stops what a node is no longer permitted to run and tries pending work again. '
  'The heartbeat row follows the role of its node, and events say what changed.';
create or replace trigger tg_node__change
  after update on mooring.node
  referencing old table as old_node new table as new_node
  for each statement
  execute function mooring_internal.tg_node__change();

-- A node without its heartbeat row would have no lease that could end, so what it owns would never
-- be reaped.
create or replace function mooring_internal.tg_heartbeat__guard() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if exists (select from mooring.node n where n.id = old.node_id) then
    raise exception using errcode = 'MR006',
      message = format('the heartbeat of node %s cannot be deleted', old.node),
      hint = format('It goes with the node: select mooring.forget_node(%L).', old.node);
  end if;
  return old;
end;
$$;
comment on function mooring_internal.tg_heartbeat__guard() is
  'A heartbeat row ends only with its node.';
create or replace trigger tg_heartbeat__guard
  before delete on mooring.heartbeat
  for each row
  execute function mooring_internal.tg_heartbeat__guard();
