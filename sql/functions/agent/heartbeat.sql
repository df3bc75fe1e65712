-- heartbeat: renews the lease of a node and answers with what it owns, as a digest.
-- It is two statements on purpose. The first locks the node's heartbeat row and waits for a reap
-- that holds it. The second reads the owned rows with a snapshot taken after that. One statement
-- would confirm work that was reaped while it waited, and two nodes would run it.
-- A beat extends the right to run only of what its answer confirms. An agent whose own set has
-- another digest reads assignments_of() first.
-- The time is the database's. It never goes backwards, except where the clock itself was set back
-- by more than the margin.
-- The commit does not wait for disk: a beat lost at a crash costs nothing, because a crash starts a
-- hold. With a synchronous standby it waits until that has received it. So a primary that was
-- deposed and does not know it confirms nothing: its standby follows another.
-- An impossible figure (NaN, a negative one) counts as none, because a broken sampler must not cost
-- the lease.
-- locks: heartbeat (its own row)
create or replace function mooring.heartbeat(
  node text,
  session uuid,
  cpu_pct float8 default null,
  memory_mb float8 default null,
  disk_free_pct float8 default null,
  disk_free_bytes bigint default null,
  running int default null
) returns table (
    digest text,
    owned int,
    lease_ttl_ms int,
    next_beat_ms int,
    hold boolean,
    round_overdue boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  setting mooring.setting;
  own_id int;
  allowed boolean;
  in_hold boolean;
begin
  cpu_pct := case when heartbeat.cpu_pct between 0 and 1e6 then heartbeat.cpu_pct end;
  memory_mb := case when heartbeat.memory_mb between 0 and 1e12 then heartbeat.memory_mb end;
  disk_free_pct := case
    when heartbeat.disk_free_pct between 0 and 100 then heartbeat.disk_free_pct
  end;
  disk_free_bytes := case when heartbeat.disk_free_bytes >= 0 then heartbeat.disk_free_bytes end;
  running := case when heartbeat.running >= 0 then heartbeat.running end;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'MR008',
      message = 'a heartbeat needs isolation level read committed',
      hint = 'With another level it would confirm what is no longer owned.';
  end if;
  perform set_config(
    'synchronous_commit',
    case current_setting('synchronous_standby_names') when '' then 'off' else 'remote_write' end,
    true);
  select s.* into setting from mooring.setting s;
  perform mooring_internal.limit_idle(setting.placement_lock_timeout);
  update mooring.heartbeat h
     set beat_at = case
           when h.beat_at > clock_timestamp() + setting.reap_margin then clock_timestamp()
           else greatest(h.beat_at, clock_timestamp())
         end,
         lease_ttl = setting.lease_ttl,
         cpu_pct = coalesce(heartbeat.cpu_pct, h.cpu_pct),
         memory_mb = coalesce(heartbeat.memory_mb, h.memory_mb),
         disk_free_pct = coalesce(heartbeat.disk_free_pct, h.disk_free_pct),
         disk_free_bytes = coalesce(heartbeat.disk_free_bytes, h.disk_free_bytes),
         running = coalesce(heartbeat.running, h.running),
         sampled_at = case
           when num_nonnulls(
             heartbeat.cpu_pct,
             heartbeat.memory_mb,
             heartbeat.disk_free_pct,
             heartbeat.disk_free_bytes,
             heartbeat.running) > 0
             then clock_timestamp()
           else h.sampled_at
         end
   where h.node = heartbeat.node and h.session = heartbeat.session
  returning h.node_id, mooring_internal.acts_for(h.role_name) into own_id, allowed;
  if allowed is not true then
    perform mooring_internal.raise_session_over(heartbeat.node);
  end if;
  in_hold := mooring_internal.notice_outage();
  return query
    select mooring_internal.ownership_digest(
          array_agg(mooring_internal.ownership_line(a, d) order by a.id)),
        count(*)::int,
        mooring_internal.milliseconds(setting.lease_ttl),
        -- only leases that the agent keeps: a daemon and what is kept have none
        mooring_internal.milliseconds(least(
          setting.beat_interval,
          min(a.lease_ttl) filter (where a.ordinal is not null and d.on_lost = 'stop') / 3)),
        in_hold,
        exists (
          select from mooring_internal.round r
           where r.name in ('reap', 'place') and mooring_internal.round_is_overdue(r))
      from mooring.assignment a
      left join mooring.deployment d on d.id = a.deployment_id
     where a.node_id = own_id;
end;
$$;
comment on function mooring.heartbeat(text, uuid, float8, float8, float8, bigint, int) is
  'Renews a node''s lease. Returns the digest of what it owns, when to beat next, and whether '
  'there is a hold. round_overdue asks the agent to run the rounds. A null figure leaves the '
  'last one.';
