-- reap: takes work from nodes whose lease is over, margin included, by the database clock. The time is read first and used throughout.
-- A heartbeat row is locked before it is judged and stays locked until the commit, so a beat that comes now waits, and then reads by a new
-- statement that it owns nothing. A beat in flight on the row makes us skip it: the node is alive.
-- A row held by assert_owner() is skipped, with an event that names the pid: its transaction ends with the lease by its own idle timeout.
-- locks: heartbeat (skip locked), then assignment (skip locked)
create or replace function mooring.reap(max_rows int default 10000) returns setof mooring.assignment
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  at timestamptz := clock_timestamp();
  margin interval;
  silent int[];
  lost bigint[];
  reaped bigint;
begin
  if mooring.hold() then
    return;
  end if;
  select s.reap_margin into margin from mooring.setting s;
  select array_agg(h.node_id) into silent
    from (select h.node_id
            from mooring.heartbeat h
           where h.beat_at < at - margin
             and exists (select from mooring.assignment a where a.node_id = h.node_id and a.ordinal is not null and h.beat_at + a.lease_ttl + margin < at)
           order by h.node_id
             for update skip locked) h;
  if silent is not null then
    select array_agg(l.id) into lost
      from (select a.id
              from mooring.assignment a join mooring.heartbeat h on h.node_id = a.node_id
             where a.node_id = any (silent) and a.ordinal is not null and h.beat_at + a.lease_ttl + margin < at
             order by a.id limit coalesce(max_rows, 10000)) l;
    return query select r.* from mooring.release(lost, 'reaped', 'the lease of its node is over') r;
    get diagnostics reaped = row_count;
    if reaped < cardinality(lost) then
      insert into mooring.event (kind, assignment_id, deployment_id, node_id, node, epoch, reason, detail)
      select 'reap_blocked', a.id, a.deployment_id, a.node_id, n.name, a.epoch,
          case when l.pid is null then 'the row is locked' else format('the row is locked by pid %s', l.pid) end, jsonb_build_object('pid', l.pid)
        from mooring.assignment a
        join mooring.node n on n.id = a.node_id
        left join pg_locks l on l.locktype = 'transactionid' and l.mode = 'ExclusiveLock' and l.granted and l.transactionid = a.xmax
       where a.id = any (lost) and a.node_id = any (silent);
    end if;
  end if;
  -- the round comes back when the next lease would end, if that is sooner than its period
  update mooring.round r set due_at = least(r.due_at, n.ends_at)
    from (select min(h.beat_at + h.lease_ttl + margin) as ends_at from mooring.heartbeat h where h.session is not null and h.beat_at + h.lease_ttl + margin > at) n
   where r.name = (select l.name from mooring.round l where l.name = 'reap' and l.due_at > n.ends_at for update skip locked);
  perform mooring.finish_round('reap');
end;
$$;
comment on function mooring.reap(int) is 'Takes assignments from nodes whose lease is over, at most max_rows; returns them. Does nothing in a hold.';
