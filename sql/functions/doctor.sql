-- doctor: one row per check, by theme: ok, warning (look at it) or problem (something does not work, or is about to), what was found, and the next thing to type.
-- Reads only, locks nothing, works on a standby. `mooring doctor` shows the same and adds what needs a client: LISTEN through a pooler, clocks, versions, TLS.
-- It sees what the owner of the schema sees, whoever asks: of other sessions pid, login, application_name and age, never their text. Where the owner may
-- not see it either, the check says so. A theme that fails is a finding, and the others are looked at all the same.
create or replace function mooring.doctor() returns table (check_name text, level text, found text, way_out text)
  language plpgsql stable security definer rows 40
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  theme text;
begin
  foreach theme in array '{rounds,nodes,work,rights,sessions,storage,server}'::text[] loop
    begin
      return query execute format('select f.* from mooring.doctor_%s() f', theme);
    exception when others then
      return query select theme, 'warning', format('could not be looked at: %s (%s)', sqlerrm, sqlstate), format('select * from mooring.doctor_%s();', theme);
    end;
  end loop;
end;
$$;
comment on function mooring.doctor() is 'What is wrong with this installation, or soon will be: one row per check with level (ok, warning, problem), what was found, and the next thing to type.';
