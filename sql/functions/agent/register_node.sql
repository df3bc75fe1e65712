-- register_node: a new session gets a node's name. It is accepted when no session is live, or when
-- it replaces the live one by its uuid. Otherwise MR002 gives the milliseconds until the name is
-- free: the end of the longest lease under which the old session may still run something, and the
-- margin, as reap() waits for it.
-- What the agent states of itself (trusts, drivers, version, containment) is stored as given.
-- What operators edit too (labels, max_assignments, URLs) is stored only when given.
-- What it refused is offered to it again when what it states has changed.
-- A new session ends the hold of its node, see hold_node().
-- Work that the node owned stays owned: the new session finds it in assignments_of().
-- The name is bound to the role that registers it first. Another role is refused (MR009) before
-- anything is read or locked, and once more under the lock of the heartbeat row. The owner of the
-- schema may register any name, and binds a name that has no role.
-- locks: node, then heartbeat
create or replace function mooring.register_node(
  node text,
  session uuid,
  trusts text default null,
  drivers text[] default '{npm}',
  labels jsonb default null,
  max_assignments int default null,
  agent_base_url text default null,
  gateway_base_url text default null,
  replaces uuid default null,
  version text default null,
  containment text default null
) returns table (
    node_id int,
    beat_interval_ms int,
    lease_ttl_ms int,
    reap_margin_ms int,
    channel text,
    schema_version int)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  own_node mooring.node;
  beat mooring.heartbeat;
  free_in interval;
  known record;
  -- what the agent says of itself is new
  changed boolean := false;
  hold_ended boolean := false;
begin
  perform mooring_internal.check_node_name(register_node.node);
  if register_node.session is null then
    raise exception using
      errcode = 'MR007',
      message = 'a session needs a uuid';
  end if;
  if register_node.containment not in ('pid-namespace', 'pdeathsig', 'process-group') then
    raise exception using
      errcode = 'MR007',
      message = format('%L is no containment', register_node.containment),
      hint = 'It is pid-namespace, pdeathsig, process-group, '
        'or null where the agent does not know.';
  end if;
  if length(register_node.version) > 100 or cardinality(register_node.drivers) > 10 then
    raise exception using
      errcode = 'MR007',
      message = 'a version has 100 characters at most, and an agent 10 drivers at most';
  end if;
  if not mooring_internal.is_schema_owner() then
    select n.role_name into known
      from mooring.node n
     where n.name = register_node.node;
    if known.role_name <> session_user then
      perform mooring_internal.raise_not_your_node(register_node.node);
    elsif known.role_name is null
      and not (select s.agents_may_add_nodes from mooring.setting s)
    then
      raise exception using
        errcode = 'MR009',
        message = format('no node %s is bound to role %s', register_node.node, session_user),
        hint = format(
          'setting.agents_may_add_nodes is false: an operator adds it first. '
          'See mooring role create agent --node %s.',
          register_node.node);
    end if;
  end if;
  perform mooring_internal.check_trust_pattern(register_node.trusts);
  perform mooring_internal.limit_idle();
  -- an outage is noticed while the old sessions are still visible
  perform mooring_internal.notice_outage();
  loop
    -- Looked up first: an insert that ends in a conflict uses up a number of the identity, and
    -- there are only 2^31.
    insert into mooring.node as n (
      name,
      trusts,
      drivers,
      labels,
      max_assignments,
      agent_base_url,
      gateway_base_url,
      version,
      containment,
      role_name)
    select register_node.node,
        register_node.trusts,
        register_node.drivers,
        coalesce(register_node.labels, '{}'),
        register_node.max_assignments,
        register_node.agent_base_url,
        register_node.gateway_base_url,
        register_node.version,
        register_node.containment,
        session_user
     where not exists (select from mooring.node o where o.name = register_node.node)
    on conflict (name) do nothing;
    -- node before heartbeat, as everywhere; the error that refuses a session below undoes this
    update mooring.node n
       set trusts = register_node.trusts,
           drivers = register_node.drivers,
           version = register_node.version,
           containment = register_node.containment,
           labels = coalesce(register_node.labels, n.labels),
           max_assignments = coalesce(register_node.max_assignments, n.max_assignments),
           agent_base_url = coalesce(register_node.agent_base_url, n.agent_base_url),
           gateway_base_url = coalesce(register_node.gateway_base_url, n.gateway_base_url),
           role_name = coalesce(n.role_name, session_user)
     where n.name = register_node.node
       and (
         n.trusts,
         n.drivers,
         n.version,
         n.containment,
         n.labels,
         n.max_assignments,
         n.agent_base_url,
         n.gateway_base_url,
         n.role_name
       ) is distinct from (
         register_node.trusts,
         register_node.drivers,
         register_node.version,
         register_node.containment,
         coalesce(register_node.labels, n.labels),
         coalesce(register_node.max_assignments, n.max_assignments),
         coalesce(register_node.agent_base_url, n.agent_base_url),
         coalesce(register_node.gateway_base_url, n.gateway_base_url),
         coalesce(n.role_name, session_user)
       );
    changed := changed or found;
    update mooring.node n
       set held_until = null
     where n.name = register_node.node
       and n.held_until is not null
       and not exists (
         select from mooring.heartbeat h
          where h.node = register_node.node and h.session = register_node.session);
    hold_ended := hold_ended or found;
    select n.* into own_node
      from mooring.node n
     where n.name = register_node.node;
    select h.* into beat
      from mooring.heartbeat h
     where h.node = register_node.node
       for update;
    exit when found;
    -- The node was deleted in between, or its heartbeat row was lost, because some tables were
    -- restored or triggers were switched off.
    insert into mooring.heartbeat (node_id, node, role_name)
    select n.id, n.name, n.role_name
      from mooring.node n
     where n.name = register_node.node
    on conflict do nothing;
  end loop;
  if not mooring_internal.acts_for(beat.role_name) then
    perform mooring_internal.raise_not_your_node(register_node.node);
  end if;
  select s.* into setting from mooring.setting s;
  if beat.session is not null
    and beat.session <> register_node.session
    and beat.session is distinct from register_node.replaces
  then
    free_in := beat.beat_at
      + greatest(
        beat.lease_ttl,
        (select max(a.lease_ttl) from mooring.assignment a where a.node_id = own_node.id))
      + setting.reap_margin
      - clock_timestamp();
    if free_in > interval '0' then
      raise exception using
        errcode = 'MR002',
        message = format('another live agent is called %s', register_node.node),
        detail = json_build_object('free_in_ms', ceil(extract(epoch from free_in) * 1000))::text,
        hint = format(
          'The name is free in %s s unless that agent beats again. '
          'Give this agent another name, or stop the other one.',
          round(extract(epoch from free_in)::numeric, 1));
    end if;
  end if;
  update mooring.heartbeat h
     set session = register_node.session,
         session_at = case
           when h.session = register_node.session then h.session_at
           else clock_timestamp()
         end,
         leaving = false,
         left_at = null,
         beat_at = greatest(h.beat_at, clock_timestamp()),
         lease_ttl = setting.lease_ttl
   where h.node_id = own_node.id;
  insert into mooring.event (kind, node_id, node, reason, detail)
  values (
    'node_registered',
    own_node.id,
    own_node.name,
    case
      when register_node.replaces = beat.session then 'its agent was replaced'
      else 'its agent started'
    end,
    jsonb_build_object(
      'session', register_node.session,
      'version', register_node.version,
      'containment', register_node.containment));
  if hold_ended then
    perform mooring_internal.add_event('node_hold_ended', 'its agent started', own_node.id);
  end if;
  if changed then
    perform mooring_internal.forget_refusals(own_node.id);
  end if;
  perform mooring_internal.enqueue('place');
  return query
    select own_node.id,
        mooring_internal.milliseconds(setting.beat_interval),
        mooring_internal.milliseconds(setting.lease_ttl),
        mooring_internal.milliseconds(setting.reap_margin),
        mooring_internal.node_channel(own_node.id),
        mooring.schema_version();
end;
$$;
comment on function mooring.register_node(
  text, uuid, text, text[], jsonb, int, text, text, uuid, text, text
) is
  'Gives a node''s name to a new session of its agent and returns the intervals it has to keep, in '
  'milliseconds. Raises MR002 while another session is live, MR009 where the name belongs to '
  'another role. replaces: the session that hands the name over.';
