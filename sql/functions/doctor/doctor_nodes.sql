-- Checks that the hosts are live, of one version, quick enough for their leases, and sure to stop
-- what they run.
create or replace function mooring_internal.doctor_nodes()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  setting mooring.setting;
  n record;
begin
  select s.* into setting from mooring.setting s;
  select count(*) as nodes,
      count(*) filter (where l.live) as live,
      array_agg(
        format(
          '%s (%s)',
          l.name,
          case
            when l.beat_at is null then 'never registered'
            else 'silent for ' || mooring_internal.format_duration(asked_at - l.beat_at)
          end)
        order by l.name) filter (where not l.live and l.left_at is null and not l.held) as silent,
      (array_agg(l.name order by l.name)
        filter (where not l.live and l.left_at is null and not l.held))[1] as first_silent,
      array_agg(
        format(
          '%s (%s ago)', l.name, mooring_internal.format_duration(asked_at - l.left_at))
        order by l.name) filter (where l.left_at is not null and not l.held) as left_in_order,
      (array_agg(l.name order by l.name)
        filter (where l.left_at is not null and not l.held))[1] as first_left,
      array_agg(
        format('%s (%s %%)', l.name, round(l.disk_free_pct::numeric, 1))
        order by l.name)
        filter (where l.live and l.disk_free_pct < setting.disk_free_min_pct) as full,
      array_agg(
        format(
          '%s (%s to go)',
          l.name,
          mooring_internal.format_duration(l.held_until - asked_at))
        order by l.name) filter (where l.held) as held,
      array_agg(l.name order by l.name) filter (where l.live and l.runs_nothing) as idle
    into n
    from (
      select d.name, h.beat_at, h.left_at, h.disk_free_pct, d.held_until,
          mooring_internal.node_is_held(d.held_until) as held,
          d.trusts is null and not d.drivers @> '{exec}' as runs_nothing,
          coalesce(mooring_internal.node_is_live(h), false) as live
        from mooring.node d
        left join mooring.heartbeat h on h.node_id = d.id) l;
  return query
    select 'nodes',
        case
          when n.nodes = 0 then 'warning'
          when n.live = 0 then 'problem'
          when n.silent is not null then 'warning'
          else 'ok'
        end,
        case
          when n.nodes = 0 then 'none has registered'
          else format('%s of %s live', n.live, n.nodes)
            || coalesce('; not live: ' || mooring_internal.abbreviate_list(n.silent, 5), '')
            || coalesce('; held: ' || mooring_internal.abbreviate_list(n.held, 5), '')
            || coalesce(
              '; left in order: ' || mooring_internal.abbreviate_list(n.left_in_order, 5), '')
        end,
        case
          when n.nodes = 0 then 'mooring agent --name host-a --trust ''^your-package@'''
          when n.silent is not null then format(
            'start its agent: %s; gone for good: select mooring.forget_node(%L);',
            mooring_internal.agent_command(n.first_silent), n.first_silent)
          when n.live = 0
            then 'start its agent: ' || mooring_internal.agent_command(n.first_left)
        end;
  return query
    select 'disks',
        case when n.full is null then 'ok' else 'warning' end,
        case
          when n.full is not null then format(
            'below %s %% free, so without new work: %s',
            setting.disk_free_min_pct,
            mooring_internal.abbreviate_list(n.full, 5))
          else format('no live node is below %s %% free', setting.disk_free_min_pct)
        end,
        case
          when n.full is not null
            then 'free space there, or lower the floor: '
              'update mooring.setting set disk_free_min_pct = ...;'
        end;
  return query
    select 'trust',
        case when n.idle is null then 'ok' else 'warning' end,
        case
          when n.idle is null then 'each live node trusts packages or runs commands'
          else format(
            'they trust no package and run no command, so nothing can run there: %s',
            mooring_internal.abbreviate_list(n.idle, 5))
        end,
        case
          when n.idle is not null then format(
            'start its agent with what it may run: '
            'mooring agent --handover --name %s --trust ''^your-package@''',
            n.idle[1])
        end;
  select count(*) as nodes,
      array_agg(
        concat_ws(
          ', ',
          d.name || case
            when h.failing is not null then format(
              ' (%s fail there)',
              mooring_internal.abbreviate_list(array(
                select coalesce(w.name, w.id::text)
                  from mooring.deployment w
                 where w.id = any (h.failing)
                 order by w.id), 3))
            else ''
          end,
          case when h.losses > 1 then format('lost %s times', h.losses) end)
        order by d.name) as troubled
    into n
    from mooring_internal.shares_of_troubled_nodes() h
    join mooring.node d on d.id = h.node_id
   where h.failing is not null or h.losses > 1;
  return query
    select 'trouble',
        case when n.nodes = 0 then 'ok' else 'warning' end,
        case
          when n.nodes = 0 then 'no node is given less work because of trouble'
          else 'given less new work: ' || mooring_internal.abbreviate_list(n.troubled, 5)
        end,
        case
          when n.nodes > 0
            then 'look at the host and at last_error in mooring.failing; '
              'to keep work off it: select mooring.drain_node(...);'
        end;
  select count(distinct v.version) as versions,
      string_agg(
        format('%s: %s %s', v.version, v.kind, mooring_internal.abbreviate_list(v.names)),
        '; ' order by v.version desc, v.kind) as list
    into n
    from (
      select coalesce(p.version, 'unknown') as version,
          p.kind,
          array_agg(p.name order by p.name) as names
        from (
          select d.version, 'agent of' as kind, d.name
            from mooring.node d
            join mooring.heartbeat h on h.node_id = d.id
           where h.session is not null
          union all
          -- the name of a worker ends with its version
          select nullif(split_part(k.id, '@', 2), ''), 'worker', split_part(k.id, '@', 1)
            from mooring_internal.worker k
           where mooring_internal.worker_is_alive(k)) p
       group by 1, 2) v;
  return query
    select 'versions',
        case when n.versions > 1 then 'warning' else 'ok' end,
        coalesce(n.list, 'no agent and no worker is alive'),
        case
          when n.versions > 1
            then 'bring all to one: restart the older workers, '
              'and start the new agent beside each older one: mooring agent --handover ...'
        end;
  -- by each node's own lease; a beat that comes after half of it leaves room for one more try
  select count(*) as nodes,
      max(asked_at - h.beat_at) as oldest,
      array_agg(h.node order by h.beat_at)
        filter (where asked_at - h.beat_at > h.lease_ttl / 2) as late
    into n
    from mooring.heartbeat h
   where h.session is not null and mooring_internal.node_is_live(h);
  return query
    select 'beats',
        case when n.late is null then 'ok' else 'warning' end,
        format(
            'lease %s, a beat every %s, margin %s',
            mooring_internal.format_duration(setting.lease_ttl),
            mooring_internal.format_duration(setting.beat_interval),
            mooring_internal.format_duration(setting.reap_margin))
          || coalesce(
            '; the oldest beat of a live node is '
              || mooring_internal.format_duration(n.oldest) || ' old',
            '')
          || coalesce(
            '; more than half a lease ago: ' || mooring_internal.abbreviate_list(n.late), ''),
        case
          when n.late is not null
            then 'look at the network and the load of these hosts and of the database; '
              'or give more time: update mooring.setting set lease_ttl = ''30 s'';'
        end;
  -- workloads that may write after their lease is over, where agent and warden die together
  select array_agg(k.node order by k.node) filter (where k.owns > 0) as owning,
      array_agg(k.node order by k.node) as weak,
      sum(k.owns) as assignments
    into n
    from (
      select d.name as node,
          (
            select count(*)
              from mooring.assignment a
              join mooring.deployment s on s.id = a.deployment_id and s.on_lost = 'stop'
             where a.node_id = d.id and a.ordinal is not null) as owns
        from mooring.node d
        join mooring.heartbeat h on h.node_id = d.id
       where h.session is not null
         and (d.containment is null or d.containment = 'process-group')) k;
  return query
    select 'containment',
        case when n.weak is null then 'ok' else 'warning' end,
        case
          when n.weak is null then 'the kernel ends the workloads of every agent that dies'
          else format(
            'process-group only, or unknown: %s; '
            'they run %s assignments with on_lost = ''stop''',
            mooring_internal.abbreviate_list(n.weak, 5),
            n.assignments)
        end,
        case
          when n.weak is not null
            then 'install util-linux there, run the agent as root or allow user namespaces, '
              'and restart it; docs/security.md'
        end;
end;
$$;
comment on function mooring_internal.doctor_nodes() is
  'Theme of doctor(): silent nodes, disks, versions, age of beats against leases, containment.';
