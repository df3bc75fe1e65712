-- Checks that the tables are in shape.
create or replace function mooring_internal.doctor_storage()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 5
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
declare
  asked_at timestamptz := clock_timestamp();
  retention interval := (select s.event_retention from mooring.setting s);
  -- an event that is older should have been pruned
  prune_patience interval := retention
    + greatest(4 * (select s.prune_interval from mooring.setting s), interval '1 hour');
  nodes bigint := (select count(*) from mooring.heartbeat);
  is_replica boolean := current_setting('session_replication_role') = 'replica';
  t record;
  bloated boolean;
begin
  -- A page is born with a dozen rows, or holds five and four dead versions of each. Several times
  -- as many pages were kept by an open snapshot.
  select pg_relation_size(c.oid) / current_setting('block_size')::int as pages,
      pg_stat_get_dead_tuples(c.oid) as dead,
      greatest(
        pg_stat_get_last_autovacuum_time(c.oid), pg_stat_get_last_vacuum_time(c.oid)) as vacuumed
    into t
    from pg_class c
   where c.oid = 'mooring.heartbeat'::regclass;
  bloated := t.pages > nodes / 2 + 100 or t.dead > 10 * nodes + 5000;
  return query
    select 'heartbeat table',
        case
          when not bloated then 'ok'
          when t.pages > 20 * nodes + 5000 then 'problem'
          else 'warning'
        end,
        format(
          '%s nodes on %s pages, %s dead versions, last vacuum %s',
          nodes,
          t.pages,
          t.dead,
          coalesce(mooring_internal.format_duration(asked_at - t.vacuumed) || ' ago', 'never')),
        case
          when bloated
            then 'end what keeps the dead versions (long transactions, replication slots), then: '
              'vacuum mooring.heartbeat; where it stays large and a pause of beats is acceptable: '
              'vacuum full mooring.heartbeat;'
        end;
  select array_agg(format('%s on %s', g.tgname, g.tgrelid::regclass) order by 1) as off,
      (array_agg(
        format('alter table %s enable trigger %I;', g.tgrelid::regclass, g.tgname)
        order by g.tgrelid::regclass::text, g.tgname))[1] as first
    into t
    from pg_trigger g
    join pg_class c
      on c.oid = g.tgrelid
     and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
   where g.tgenabled not in ('O', 'A');
  return query
    select 'triggers',
        case
          when t.off is not null or is_replica then 'problem'
          else 'ok'
        end,
        case
          when t.off is not null
            then 'switched off: ' || mooring_internal.abbreviate_list(t.off)
          when is_replica
            then 'this session runs none: session_replication_role is replica'
          else 'all are on'
        end,
        coalesce(
          t.first,
          case
            when is_replica
              then 'reset session_replication_role; '
                'where it is set for the database or the role, reset it there'
          end);
  select array_agg(
        format(
          '%s counted as %s, owns %s',
          coalesce(n.name, 'node ' || l.node_id),
          l.kept,
          l.counted)
        order by l.node_id) as wrong
    into t
    from mooring_internal.inconsistent_loads() l
    left join mooring.node n on n.id = l.node_id;
  return query
    select 'loads',
        case when t.wrong is null then 'ok' else 'warning' end,
        coalesce(
          'node_load is wrong: ' || mooring_internal.abbreviate_list(t.wrong),
          'are what the nodes own'),
        case
          when t.wrong is not null
            then 'select from mooring.evict(); as the evict round does by itself. '
              'Where it comes back, look at the triggers of assignment.'
        end;
  -- the oldest by id: the table is written in order of time
  select pg_total_relation_size('mooring.event') as events,
      pg_total_relation_size('mooring.ownership') as history,
      (
        select e.at
          from mooring.event e
         order by e.id
         limit 1) as oldest
    into t;
  return query
    select 'history',
        case
          when t.oldest < asked_at - prune_patience
            or t.events + t.history > 20 * 1024 ^ 3
            then 'warning'
          else 'ok'
        end,
        format(
          'events %s, owners %s, kept for %s%s',
          pg_size_pretty(t.events),
          pg_size_pretty(t.history),
          retention,
          coalesce(
            '; the oldest event is '
              || mooring_internal.format_duration(asked_at - t.oldest) || ' old',
            '')),
        case
          when t.oldest < asked_at - prune_patience
            then 'select mooring.prune_events(); '
              'it deletes 50,000 at a time: repeat it while it returns as many'
          when t.events + t.history > 20 * 1024 ^ 3
            then 'keep less: update mooring.setting set event_retention = ''7 days'';'
        end;
end;
$$;
comment on function mooring_internal.doctor_storage() is
  'Theme of doctor(): bloat of the heartbeats, disabled triggers, loads, size of the history.';
