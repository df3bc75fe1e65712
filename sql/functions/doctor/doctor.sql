-- doctor: one row per check, by theme: ok, warning (look at it) or problem (something does not
-- work, or is about to), what was found, and the next command.
-- It reads only, so it works on a standby. `mooring doctor` shows the same and adds what needs a
-- client: LISTEN through a pooler, clocks, versions, TLS.
-- Every caller gets what the owner of the schema may see. Of other sessions that is pid, login,
-- application_name and age, never their text. Where the owner may not see it either, the check says
-- so.
-- A theme that fails, or whose table is locked, is a finding of its own. The other themes are
-- checked all the same.
create or replace function mooring.doctor()
  returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 40
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '1s'
as $$
declare
  theme text;
  holder int;
begin
  foreach theme in array '{rounds,nodes,work,rights,sessions,storage,server}'::text[] loop
    begin
      return query execute format('select f.* from mooring_internal.doctor_%s() f', theme);
    exception
      when lock_not_available then
        -- by database too: one that was created from another has the same oids for its tables
        select l.pid into holder
          from pg_locks l
          join pg_class c
            on c.oid = l.relation
           and c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
         where l.granted
           and l.mode = 'AccessExclusiveLock'
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
         limit 1;
        return query
          select theme,
              'problem',
              format(
                'could not be looked at: a table of Mooring is locked by pid %s',
                coalesce(holder::text, '?')),
              format(
                'if that is no migration that ends soon: select pg_terminate_backend(%s);',
                coalesce(holder::text, '...'));
      when others then
        return query
          select theme,
              'warning',
              format('could not be looked at: %s (%s)', sqlerrm, sqlstate),
              format('select * from mooring_internal.doctor_%s();', theme);
    end;
  end loop;
end;
$$;
comment on function mooring.doctor() is
  'What is wrong with this installation, or soon will be: one row per check with level (ok, '
  'warning, problem), what was found, and the next command.';
