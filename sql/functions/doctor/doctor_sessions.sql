-- Names the sessions that hold back vacuum, and those that wait for a lock. A snapshot that stays
-- open keeps every dead version of every heartbeat for as long as it stays.
-- Of a session its pid, login, application_name and age are shown, never its text.
-- xmin and lock waits are visible to every role. The age of a transaction is visible only where the
-- owner of the schema is a member of pg_read_all_stats, or of the session's role.
create or replace function mooring_internal.doctor_sessions(
  open_for interval default '1 min',
  waiting_for interval default '2 s'
) returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  here oid := (select d.oid from pg_database d where d.datname = current_database());
  s record;
begin
  select array_agg(
        format(
          'pid %s (%s, %s%s)',
          o.pid,
          o.usename,
          coalesce(nullif(o.application_name, ''), 'unnamed'),
          coalesce(
            ', ' || o.state || ', open for '
              || mooring_internal.format_duration(asked_at - o.xact_start),
            format(
              ', %s transactions behind; for how long is not visible to the owner of the schema',
              o.behind)))
        order by o.xact_start, o.behind desc) as old,
      (array_agg(o.pid order by o.xact_start, o.behind desc))[1] as first,
      max(asked_at - o.xact_start) as oldest
    into s
    from (
      select a.*, greatest(age(a.backend_xmin), age(a.backend_xid)) as behind
        from pg_stat_activity a
       where (a.datid = here or a.backend_type = 'walsender')
         and a.pid <> pg_backend_pid()
         and a.backend_type <> 'autovacuum worker'
         and (
           a.backend_xmin is not null
           or a.backend_xid is not null
           or a.state like 'idle in transaction%')) o
   where o.xact_start < asked_at - open_for
      or o.xact_start is null and o.behind > 100000
      or o.state like 'idle in transaction%' and o.xact_start < asked_at - open_for / 4;
  return query
    select 'long transactions',
        case
          when s.first is null then 'ok'
          when s.oldest > interval '1 hour' then 'problem'
          else 'warning'
        end,
        coalesce(
          mooring_internal.abbreviate_list(s.old)
            || ': vacuum cannot clean up the rows that died since',
          'no snapshot or transaction is open for more than '
            || mooring_internal.format_duration(open_for)),
        case
          when s.first is not null then format(
            'end it: select pg_terminate_backend(%s); for good: '
            'alter database %I set idle_in_transaction_session_timeout = ''1 min'';',
            s.first,
            current_database())
        end;
  select array_agg(
        format(
          '%L (%s, %s old)',
          p.gid,
          p.owner,
          mooring_internal.format_duration(asked_at - p.prepared))
        order by p.prepared) as old,
      (array_agg(p.gid order by p.prepared))[1] as first
    into s
    from pg_prepared_xacts p
   where p.database = current_database() and p.prepared < asked_at - open_for;
  return query
    select 'prepared transactions',
        case when s.first is null then 'ok' else 'problem' end,
        coalesce(
          mooring_internal.abbreviate_list(s.old)
            || ': they keep their locks and dead rows, also over a restart',
          'none is left behind'),
        case
          when s.first is not null
            then format('rollback prepared %L; (or commit prepared)', s.first)
        end;
  select array_agg(
        format(
          '%s (%s%s)',
          r.slot_name,
          case when r.active then 'active' else 'without a reader' end,
          coalesce(
            ', ' || greatest(age(r.xmin), age(r.catalog_xmin)) || ' transactions behind', ''))
        order by r.slot_name) as holding,
      (array_agg(r.slot_name order by r.active, r.slot_name))[1] as first,
      bool_or(not r.active) as idle
    into s
    from pg_replication_slots r
   where not r.active or greatest(age(r.xmin), age(r.catalog_xmin)) > 100000;
  return query
    select 'replication slots',
        case when s.first is null then 'ok' else 'warning' end,
        coalesce(
          mooring_internal.abbreviate_list(s.holding)
            || ': dead rows and WAL are kept for them',
          'none holds anything back'),
        case
          when s.first is not null then format(
            'bring its standby back, or select pg_drop_replication_slot(%L);', s.first)
        end;
  select array_agg(
        format(
          'pid %s (%s) waits%s for %s on %s.%s, held by pid %s',
          w.pid,
          w.application_name,
          coalesce(' ' || mooring_internal.format_duration(asked_at - w.waitstart), ''),
          w.mode,
          w.relnamespace,
          w.relname,
          coalesce(array_to_string(w.blockers, ', '), '?'))
        order by w.waitstart) as waits,
      (array_agg(w.blockers[1] order by w.waitstart))[1] as first,
      bool_or(w.mode = 'AccessExclusiveLock') as ddl
    into s
    from (
      select l.pid,
          a.application_name,
          l.waitstart,
          l.mode,
          c.relnamespace::regnamespace,
          c.relname,
          pg_blocking_pids(l.pid) as blockers
        from pg_locks l
        join pg_class c
          on c.oid = l.relation
         and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
        left join pg_stat_activity a on a.pid = l.pid
       where not l.granted and l.database = here and l.waitstart < asked_at - waiting_for) w;
  return query
    select 'lock waits',
        case
          when s.waits is null then 'ok'
          when s.ddl then 'problem'
          else 'warning'
        end,
        coalesce(
          mooring_internal.abbreviate_list(s.waits, 2),
          'no session waits for a lock on a table of Mooring'),
        case
          when s.waits is not null then format(
            'end the session that holds it: select pg_terminate_backend(%s);',
            coalesce(s.first::text, '...'))
        end;
end;
$$;
comment on function mooring_internal.doctor_sessions(interval, interval) is
  'Theme of doctor(): open snapshots, prepared transactions, replication slots, lock waits. '
  'open_for: how old a transaction, waiting_for: how old a lock wait has to be to show.';
