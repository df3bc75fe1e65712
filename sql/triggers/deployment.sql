-- Triggers of mooring.deployment. There is one per event, for a whole statement, so that COPY and
-- INSERT..SELECT of 100,000 rows are one piece of work.

create or replace function mooring_internal.tg_deployment__arrive() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  made bigint;
  arrived bigint[];
begin
  select array_agg(d.id) into arrived from new_deployment d;
  if arrived is null then
    return null;
  elsif cardinality(arrived) <= 1000 then
    insert into mooring.event (kind, deployment_id, reason, actor, detail)
    select 'deployment_added', d.id,
        concat_ws(': ', d.name, coalesce(d.package_name || '@' || d.package_version, 'a command')),
        (select mooring_internal.actor()),
        jsonb_strip_nulls(jsonb_build_object('name', d.name, 'type', d.type))
      from new_deployment d
     order by d.id;
  else
    -- an event for each would take a fifth of the time of the whole INSERT
    insert into mooring.event (kind, reason, detail)
    select 'deployment_added', format('%s at once, ids %s to %s', count(*), min(d.id), max(d.id)),
        jsonb_build_object('count', count(*), 'first_id', min(d.id), 'last_id', max(d.id))
      from new_deployment d;
  end if;
  perform mooring_internal.note_namesakes(arrived);
  made := mooring_internal.insert_missing_assignments(arrived, are_new => true);
  if made < (select sum(d.replicas) from new_deployment d where d.type = 'deployment')
     or exists (
       select from mooring.assignment a
        where a.surplus and a.deployment_id = any (arrived))
  then
    -- the same id existed before and its processes still have to stop; its rows stay until then,
    -- see release()
    perform mooring_internal.make_assignments(arrived);
  end if;
  if exists (select from new_deployment d where d.type = 'daemon') then
    select array_agg(d.id) into arrived
      from new_deployment d
     where d.type = 'daemon';
    perform mooring_internal.make_daemons(deployments => arrived);
  end if;
  perform mooring_internal.enqueue('place');
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__arrive() is
  'New deployments get their assignments and one place job for the whole transaction. An event '
  'tells who added which; more than 1000 in one statement share one.';
create or replace trigger tg_deployment__arrive
  after insert on mooring.deployment
  referencing new table as new_deployment
  for each statement
  execute function mooring_internal.tg_deployment__arrive();

create or replace function mooring_internal.tg_deployment__stamp() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if (new.id, new.type) is distinct from (old.id, old.type) then
    raise exception using errcode = 'MR006',
      message = format('deployment %s cannot change its %s', old.id,
        case when new.id is distinct from old.id then 'id' else 'type' end),
      hint = 'Insert a new deployment and delete this one.';
  end if;
  if (new.package_name, new.package_version, new.command, new.args, new.env)
     is distinct from
     (old.package_name, old.package_version, old.command, old.args, old.env) then
    new.generation := greatest(new.generation, old.generation + 1);
  else
    new.generation := greatest(new.generation, old.generation);
  end if;
  if new.updated_at = old.updated_at
     and (
       new.generation, new.policy, new.selector, new.pinned_node, new.needs_urls, new.enabled,
       new.replicas, new.name, new.labels, new.on_lost, new.handover, new.lease_ttl, new.stop_grace)
     is distinct from (
       old.generation, old.policy, old.selector, old.pinned_node, old.needs_urls, old.enabled,
       old.replicas, old.name, old.labels, old.on_lost, old.handover, old.lease_ttl, old.stop_grace)
  then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end;
$$;
comment on function mooring_internal.tg_deployment__stamp() is
  'Raises generation when what must run changes, and keeps id and type.';
create or replace trigger tg_deployment__stamp
  before update on mooring.deployment
  for each row
  execute function mooring_internal.tg_deployment__stamp();

create or replace function mooring_internal.tg_deployment__change() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  changed bigint[];
  reshaped bigint[];
  moved bigint[];
  daemons bigint[];
begin
  -- Old and new values stand in the event where a viewer may read the column. Arguments, commands
  -- and the environment may hold secrets, so there only the name does.
  insert into mooring.event (kind, deployment_id, reason, actor, detail)
  select 'deployment_changed', c.id,
      concat_ws(': ', c.name, (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k)),
      (select mooring_internal.actor()),
      c.changes
    from (select n.id, n.name,
              jsonb_strip_nulls(jsonb_build_object(
                'name', mooring_internal.change(o.name, n.name),
                'labels', mooring_internal.change(o.labels, n.labels),
                'package_name', mooring_internal.change(o.package_name, n.package_name),
                'package_version',
                mooring_internal.change(o.package_version, n.package_version),
                'command', mooring_internal.hidden_change(o.command, n.command),
                'args', mooring_internal.hidden_change(o.args, n.args),
                'env', mooring_internal.hidden_change(o.env, n.env),
                'enabled', mooring_internal.change(o.enabled, n.enabled),
                'replicas', mooring_internal.change(o.replicas, n.replicas),
                'policy', mooring_internal.change(o.policy, n.policy),
                'selector', mooring_internal.change(o.selector, n.selector),
                'pinned_node', mooring_internal.change(o.pinned_node, n.pinned_node),
                'needs_urls', mooring_internal.change(o.needs_urls, n.needs_urls),
                'on_lost', mooring_internal.change(o.on_lost, n.on_lost),
                'handover', mooring_internal.change(o.handover, n.handover),
                'lease_ttl', mooring_internal.change(o.lease_ttl, n.lease_ttl),
                'stop_grace', mooring_internal.change(o.stop_grace, n.stop_grace),
                'generation', mooring_internal.change(o.generation, n.generation))) as changes
            from new_deployment n
            join old_deployment o on o.id = n.id) c
   where c.changes <> '{}'
   order by c.id;
  perform mooring_internal.note_namesakes(array(
    select n.id
      from new_deployment n
      join old_deployment o on o.id = n.id
     where n.name <> coalesce(o.name, '')));
  select array_agg(n.id) filter (where n.type = 'deployment'),
      array_agg(n.id) filter (
        where n.type = 'deployment'
          and (n.enabled, n.replicas, n.signature)
            is distinct from (o.enabled, o.replicas, o.signature)),
      array_agg(n.id) filter (where n.signature <> o.signature),
      array_agg(n.id) filter (where n.type = 'daemon')
    into changed, reshaped, moved, daemons
    from new_deployment n
    join old_deployment o on o.id = n.id
   where (
         n.enabled, n.replicas, n.signature, n.generation, n.on_lost, n.handover, n.stop_grace)
     is distinct from (
         o.enabled, o.replicas, o.signature, o.generation, o.on_lost, o.handover, o.stop_grace);
  if changed is null and daemons is null then
    return null;
  end if;
  if daemons is not null then
    perform mooring_internal.make_daemons(deployments => daemons);
  end if;
  perform mooring_internal.make_assignments(reshaped);
  perform mooring_internal.requeue(changed);
  if moved is not null then
    perform mooring.evict(deployments => moved);
  end if;
  perform mooring_internal.notify_nodes((
    select array_agg(distinct a.node_id)
      from mooring.assignment a
     where a.deployment_id = any (changed || daemons) and a.node_id is not null));
  perform mooring_internal.enqueue('place');
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__change() is
  'Assignments follow the changed specs; owners are notified, and work that is no longer permitted '
  'stops. An event for each says what changed.';
create or replace trigger tg_deployment__change
  after update on mooring.deployment
  referencing old table as old_deployment new table as new_deployment
  for each statement
  execute function mooring_internal.tg_deployment__change();

create or replace function mooring_internal.tg_deployment__end() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  ended bigint[];
begin
  select array_agg(o.id) into ended from old_deployment o;
  if ended is null then
    return null;
  end if;
  insert into mooring.event (kind, deployment_id, reason, actor, detail)
  select 'deployment_deleted', o.id,
      concat_ws(': ', o.name, coalesce(o.package_name || '@' || o.package_version, 'a command')),
      (select mooring_internal.actor()),
      jsonb_strip_nulls(jsonb_build_object(
        'name', o.name,
        'type', o.type,
        'generation', o.generation,
        'replicas', o.replicas))
    from old_deployment o
   order by o.id;
  perform mooring_internal.make_assignments(ended);
  insert into mooring_internal.stopping_deployment (id, name)
  select o.id, o.name
    from old_deployment o
   where o.name is not null
     and exists (select from mooring.assignment a where a.deployment_id = o.id)
  on conflict (id) do update
     set name = excluded.name;
  if exists (select from old_deployment o where o.type = 'daemon') then
    perform mooring_internal.make_daemons(deployments => ended);
  end if;
  return null;
end;
$$;
comment on function mooring_internal.tg_deployment__end() is
  'Pending rows are deleted; owned rows are ordered to stop and stay until their processes are '
  'gone. An event for each keeps its name.';
create or replace trigger tg_deployment__end
  after delete on mooring.deployment
  referencing old table as old_deployment
  for each statement
  execute function mooring_internal.tg_deployment__end();

create or replace function mooring_internal.tg_refuse_truncate() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'MR006',
    message = format('%I cannot be truncated', tg_table_name),
    hint = case tg_table_name
      when 'heartbeat' then
        'Its rows go with their nodes: delete those, or select mooring.forget_node(...).'
      when 'node_load' then
        'Loads are kept in it; the evict round recounts them where they are wrong: '
        'select from mooring.evict();'
      else
        'Processes would run on without an owner. '
        'Use delete: the processes are stopped and their rows go when they are gone.' end;
end;
$$;
comment on function mooring_internal.tg_refuse_truncate() is
  'Refuses TRUNCATE, because it would leave running processes without an owner.';
create or replace trigger tg_deployment__refuse_truncate
  before truncate on mooring.deployment
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_assignment__refuse_truncate
  before truncate on mooring.assignment
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_heartbeat__refuse_truncate
  before truncate on mooring.heartbeat
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_node_load__refuse_truncate
  before truncate on mooring_internal.node_load
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
create or replace trigger tg_node__refuse_truncate
  before truncate on mooring.node
  for each statement
  execute function mooring_internal.tg_refuse_truncate();
