-- How the server and the database are set. reset_val is what a new session of the caller gets; the
-- values in force here are not, because this function pins search_path.
create or replace function mooring_internal.doctor_server()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  asked_at timestamptz := clock_timestamp();
  here oid := (select d.oid from pg_database d where d.datname = current_database());
  off text[];
  c record;
  free int;
  needed int;
begin
  off := array(
    select s.name
      from pg_settings s
     where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
     order by 1);
  return query
    select 'durability',
        case
          when off <> '{}' then 'problem'
          when s.reset_val in ('off', 'local') then 'warning'
          else 'ok'
        end,
        case
          when off <> '{}' then format(
            '%s is off: a crash of the machine can destroy the database',
            array_to_string(off, ' and '))
          else format(
            'fsync and full_page_writes are on; synchronous_commit is %s%s',
            s.reset_val,
            case
              when s.reset_val = 'off'
                then ': placement waits for disk all the same, your own INSERT does not'
              else ''
            end)
        end,
        case
          when off <> '{}'
            then format('alter system set %s = on; select pg_reload_conf();', off[1])
          when s.reset_val in ('off', 'local')
            then format('alter database %I set synchronous_commit = on;', current_database())
        end
      from pg_settings s
     where s.name = 'synchronous_commit';
  off := array(
    select s.name
      from pg_settings s
     where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
     order by 1);
  return query
    select 'autovacuum',
        case when off = '{}' then 'ok' else 'problem' end,
        case
          when off = '{}' then 'on'
          else format(
            '%s is off: heartbeats and queue grow without end', array_to_string(off, ' and '))
        end,
        case
          when off <> '{}'
            then format('alter system set %s = on; select pg_reload_conf();', off[1])
        end;
  return query
    select 'notifications',
        case
          when u.used >= 0.5 then 'problem'
          when u.used >= 0.1 then 'warning'
          else 'ok'
        end,
        format('the queue is %s %% full', round((100 * u.used)::numeric, 1))
          || case
            when u.used >= 0.5 then ': hints are left out, so that no commit fails; '
              'work is found by the next beat or round'
            else ''
          end,
        case
          when u.used >= 0.1 then 'a session that listens has a transaction open for too long: '
            'select pid, usename, xact_start from pg_stat_activity order by xact_start limit 5;'
        end
      from (select pg_notification_queue_usage() as used) u;
  select count(*) as standbys,
      count(*) filter (where r.sync_state in ('sync', 'quorum')) as sync,
      count(*) filter (where r.sync_state is null) as hidden
    into c
    from pg_stat_replication r;
  return query
    select 'standbys',
        case
          when c.standbys > 0 and c.sync = 0 and c.hidden = 0 then 'warning'
          else 'ok'
        end,
        case
          when c.standbys = 0 then 'none is connected'
          when c.hidden > 0 then format(
            '%s; whether one is synchronous is not visible to the owner of the schema',
            c.standbys)
          when c.sync = 0 then format(
            '%s, all asynchronous: a promotion may lose the last claims, '
            'and a hold of one lease has to cover it',
            c.standbys)
          else format('%s, %s of them synchronous', c.standbys, c.sync)
        end,
        case
          when c.standbys > 0 and c.sync = 0 and c.hidden = 0
            then 'alter system set synchronous_standby_names = ''ANY 1 (*)''; '
              'select pg_reload_conf();'
          when c.hidden > 0 then format('grant pg_read_all_stats to %I;', current_user)
        end;
  -- pg_upgrade and a restored dump begin at timeline 1 again, and epochs stay as high as they were;
  -- a standby writes no log, so it has no timeline to read
  if not pg_is_in_recovery() then
    select (max(a.epoch) >> 40) + 1 as had, (mooring_internal.next_epoch(0) >> 40) + 1 as has
      into c
      from mooring.assignment a;
    return query
      select 'epochs',
          case when c.had > c.has then 'warning' else 'ok' end,
          case
            when c.had > c.has then format(
              'they were given on timeline %s, and the server is on %s: until it has been '
              'promoted past that, a promotion without the last claims gives their epochs again',
              c.had,
              c.has)
            else format('of timeline %s', c.has)
          end,
          case
            when c.had > c.has
              then 'keep a synchronous standby; without one, stop the agents before a standby is '
                'promoted, and start them again afterwards'
          end;
  end if;
  select count(*) as used,
      count(*) filter (where a.application_name like 'mooring agent%') as agents
    into c
    from pg_stat_activity a
   where a.backend_type = 'client backend';
  free := current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0)
    - c.used;
  -- an agent holds two connections and a third while it reports; all may come back at once
  needed := greatest(
    3 * (select count(*) from mooring.heartbeat h where h.session is not null)::int - c.agents,
    0);
  return query
    select 'connections',
        case
          when free < 3 then 'problem'
          when free < needed + 5 then 'warning'
          else 'ok'
        end,
        format(
            '%s of %s in use, %s of them by agents; %s free',
            c.used,
            current_setting('max_connections'),
            c.agents,
            free)
          || case
            when free < needed + 5 then format(', and the agents may need %s more', needed)
            else ''
          end,
        case
          when free < needed + 5 then format(
            'alter system set max_connections = %s; and restart the server',
            current_setting('max_connections')::int + greatest(needed, 50))
        end;
  -- pg_jit_available() reads what is in force here as well, so nothing on the way to this function
  -- switches jit off
  return query
    select 'jit',
        case when j.compiles and j.nodes >= 100 then 'warning' else 'ok' end,
        case
          when s.reset_val = 'off' then 'off'
          when not j.compiles then 'on, but this server has no compiler'
          else format(
            'on: with %s nodes %s',
            j.nodes,
            case
              when j.nodes >= 100
                then 'a query of a view may compile for longer than it runs '
                  '(functions of Mooring switch it off)'
              else 'it does not matter'
            end)
        end,
        case
          when j.compiles and j.nodes >= 100
            then format('alter database %I set jit = off;', current_database())
        end
      from pg_settings s
     cross join lateral (
       select s.reset_val = 'on' and pg_jit_available() as compiles,
           (select count(*) from mooring.node) as nodes) j
     where s.name = 'jit';
  return query
    select 'search_path',
        'ok',
        case
          when s.reset_val ~ '(^|[ ,"])mooring($|[ ,"])' then 'has mooring in it'
          else 'does not have mooring in it: write mooring.deployment, mooring.placement ...'
        end,
        case
          when s.reset_val !~ '(^|[ ,"])mooring($|[ ,"])' then format(
            'alter database %I set search_path = %s, mooring;', current_database(), s.reset_val)
        end
      from pg_settings s
     where s.name = 'search_path';
  select count(*) as plain,
      count(*) filter (where l.ssl is null) as hidden,
      array_agg(distinct coalesce(nullif(a.application_name, ''), 'unnamed'))
        filter (where l.ssl is false) as names,
      count(*) filter (where l.ssl is false) as bare
    into c
    from pg_stat_activity a
    left join pg_stat_ssl l on l.pid = a.pid
   where a.datid = here
     and a.backend_type = 'client backend'
     and (
       a.client_addr is null and a.client_port is null
       or not (a.client_addr <<= '127.0.0.0/8' or a.client_addr = '::1'))
     and coalesce(a.client_port, 0) <> -1;
  return query
    select 'encryption',
        case when c.bare > 0 then 'warning' else 'ok' end,
        case
          when c.bare > 0 then format(
            '%s sessions come over the network without TLS: %s',
            c.bare,
            mooring_internal.abbreviate_list(c.names))
          when c.hidden > 0 then format(
            'of %s sessions it is not visible to the owner of the schema', c.hidden)
          else 'no session comes over the network without TLS'
        end,
        case
          when c.bare > 0
            then 'sslmode=verify-full in their DATABASE_URL, hostssl in pg_hba.conf; '
              'docs/security.md'
          when c.hidden > 0 then format('grant pg_read_all_stats to %I;', current_user)
        end;
end;
$$;
comment on function mooring_internal.doctor_server() is
  'Theme of doctor(): durability, autovacuum, standbys, epochs, connections, jit, search_path, '
  'encryption.';
