-- reap: frees work of nodes whose lease and margin are over by the database clock.
-- Two times. Leases are judged by `at`: judged_at, or the start of the call if that is earlier.
-- `read_at`, the start of the call, only repairs beats in the future.
-- judged_at: tick() passes the time that it compared with its caller's clock. So a step of the
-- database clock between a tick and the reap it started frees nothing. A job that waited long uses
-- an old time: it finds fewer ended leases, never more. null: the start of the call.
-- What stays with its node:
--   daemons, unless they shall stop
--   work with on_lost = 'keep' that no live node could take, see work_with_nowhere_to_go()
--   all work of a node that is held, see hold_node()
--   all work while reaping is paused
-- Work of nodes without a session never stays, because those left by themselves. While such a node
-- is held, its work stays too.
-- README.md tells what each lock and each skipped row is for.
-- locks: heartbeat (skip locked), reap_pause (skip locked), then assignment (skip locked)
create or replace function mooring.reap(
  max_rows int default 10000,
  judged_at timestamptz default null
) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  read_at timestamptz := clock_timestamp();
  at timestamptz := least(reap.judged_at, read_at);
  margin interval;
  paused boolean;
  in_hold boolean;
  -- nodes that left, and silent ones, with work that a reap may free
  overdue int[];
  -- nodes whose work waits for them, see hold_node()
  held int[];
  -- deployments whose work stays with its silent node
  stays bigint[] := '{}';
  lost bigint[];
  lost_epochs bigint[];
  lost_nodes int[];
begin
  -- A transaction that holds heartbeat rows keeps their nodes from coming back. One that holds the
  -- round keeps every caller from it.
  perform mooring_internal.limit_idle();
  select s.reap_margin into margin from mooring.setting s;
  -- the clock went back: a beat in the future would keep a silent node alive as long as the step
  update mooring.heartbeat h
     set beat_at = read_at
   where h.node_id = any (array(
     select l.node_id
       from mooring.heartbeat l
      where l.beat_at > read_at + margin
        for update skip locked));
  in_hold := mooring_internal.notice_outage();
  if in_hold then
    -- the round is done, and nothing was to do: otherwise every heartbeat would ask for a tick
    perform mooring_internal.finish_round('reap');
    return;
  end if;
  held := array(
    select n.id
      from mooring.node n
     where mooring_internal.node_is_held(n.held_until));
  -- offset 0: one index lookup for each such node, up to the first hit; as a join it would read
  -- all that each of them owns
  overdue := array(
    select h.node_id
      from mooring.heartbeat h
     where (h.session is null or h.beat_at < at - margin)
       and h.node_id <> all (held)
       and exists (
         select from mooring.assignment a
          where a.node_id = h.node_id
            and (a.ordinal is not null or a.wanted = 'stop')
            and mooring_internal.lease_end(h, a) + margin < at
         offset 0));
  if overdue <> '{}' then
    stays := mooring_internal.work_with_nowhere_to_go(overdue);
    if stays <> '{}' then
      overdue := array(
        select h.node_id
          from mooring.heartbeat h
         where h.node_id = any (overdue)
           and exists (
             select from mooring.assignment a
              where a.node_id = h.node_id
                and (a.ordinal is not null or a.wanted = 'stop')
                and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
                and mooring_internal.lease_end(h, a) + margin < at
             offset 0));
    end if;
  end if;
  paused := mooring_internal.update_reap_pause(at, overdue);
  overdue := array(
    select h.node_id
      from mooring.heartbeat h
     where h.node_id = any (overdue)
       and (h.session is null or h.beat_at < at - margin and not paused)
     order by h.node_id
       for update skip locked);
  if overdue <> '{}' then
    -- Rows are locked as they are chosen. Otherwise rows locked elsewhere would be chosen again
    -- each time, and those behind them never.
    -- + 0: the planner knows neither number in a plan that it keeps. Without it, it reads the whole
    -- table along its primary key instead of what the overdue nodes own.
    select array_agg(l.id), array_agg(l.epoch), array_agg(distinct l.node_id)
      into lost, lost_epochs, lost_nodes
      from (
        select a.id, a.epoch, a.node_id
          from mooring.assignment a
          join mooring.heartbeat h on h.node_id = a.node_id
         where a.node_id = any (overdue)
           and (a.ordinal is not null or a.wanted = 'stop')
           and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
           and mooring_internal.lease_end(h, a) + margin < at
         order by a.id + 0
         limit coalesce(max_rows, 10000)
           for update of a skip locked) l;
    return query
      select r.*
        from mooring_internal.release(
          lost, lost_epochs, 'reaped', 'the lease of its node is over') r;
    -- from now on the silence of these nodes counts, see update_reap_pause()
    update mooring.heartbeat h
       set reaped_at = read_at
     where h.node_id = any (lost_nodes);
    perform mooring_internal.note_trouble(
      lost_nodes, array_fill(0::bigint, array[coalesce(cardinality(lost_nodes), 0)]));
    if coalesce(cardinality(lost), 0) < coalesce(max_rows, 10000) then
      -- What is left is locked elsewhere. xmax is the transaction that locks the row, or a number
      -- for several of them; then all that lock rows of the table are named.
      with blocked as materialized (
        select a.xmax as locked_by, min(a.id) as id, count(*) as n
          from mooring.assignment a
          join mooring.heartbeat h on h.node_id = a.node_id
         where a.node_id = any (overdue)
           and (a.ordinal is not null or a.wanted = 'stop')
           and (a.wanted = 'stop' or h.session is null or a.deployment_id <> all (stays))
           and mooring_internal.lease_end(h, a) + margin < at
         group by a.xmax
         order by min(a.id)
         limit 5
      ),
      lock as materialized (
        select l.pid, l.transactionid, l.relation
          from pg_locks l
         where l.granted
           and l.pid is distinct from pg_backend_pid()
           and exists (select from blocked)
           and (
             l.locktype = 'transactionid' and l.mode = 'ExclusiveLock'
             or l.locktype = 'relation'
               and l.relation = 'mooring.assignment'::regclass
               and l.database = (
                 select d.oid
                   from pg_database d
                  where d.datname = current_database())
               and l.mode = 'RowShareLock')
      ),
      reported as materialized (
        select l.assignment_id, l.epoch
          from mooring.last_events(1000) l
         where l.kind = 'reap_blocked'
           and l.at > clock_timestamp() - interval '1 min'
           and exists (select from blocked)
      )
      insert into mooring.event (
        kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
      select 'reap_blocked', a.id, a.deployment_id, a.node_id, n.name, a.epoch,
          case
            when w.prepared
              then 'the row is locked by a prepared transaction: see pg_prepared_xacts'
            else coalesce(
              'the row is locked by pid ' || array_to_string(w.pids, ' or '),
              'the row is locked')
          end
            || case when b.n > 1 then format(', as are %s more', b.n - 1) else '' end,
          jsonb_build_object('pid', w.pids[1], 'pids', w.pids, 'rows', b.n)
        from blocked b
        join mooring.assignment a on a.id = b.id
        join mooring.node n on n.id = a.node_id
       cross join lateral (
         select bool_or(l.transactionid = b.locked_by and l.pid is null) as prepared,
             coalesce(
               array_agg(distinct l.pid) filter (where l.transactionid = b.locked_by),
               array_agg(distinct l.pid) filter (where l.relation is not null)) as pids
           from lock l) w
       -- once a minute is enough, however long it lasts
       where (a.id, a.epoch) not in (select s.assignment_id, s.epoch from reported s);
    end if;
  end if;
  -- the round is due again when the next lease would end, if that is sooner than its period
  update mooring_internal.round r
     set due_at = least(r.due_at, n.ends_at)
    from (
      select min(h.beat_at + h.lease_ttl + margin) as ends_at
        from mooring.heartbeat h
       where h.session is not null and h.beat_at + h.lease_ttl + margin > at) n
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = 'reap' and l.due_at > n.ends_at
        for update skip locked);
  perform mooring_internal.finish_round('reap');
end;
$$;
comment on function mooring.reap(int, timestamptz) is
  'Frees assignments of nodes whose lease and margin were over at judged_at (null: now), at most '
  'max_rows, and returns them. In a hold it does nothing. While reaping is paused, because too '
  'many nodes are silent, it frees only the work of nodes that left.';
