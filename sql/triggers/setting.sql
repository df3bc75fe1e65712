-- setting is one row that everything reads: without it nobody beats, and all nodes end what they run.
create or replace function mooring_internal.tg_setting__keep() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'MR006', message = 'the row of mooring.setting cannot be deleted',
    hint = 'The whole fleet lives by it. Update it instead; a knob goes back with: update mooring.setting set lease_ttl = default;';
end;
$$;
comment on function mooring_internal.tg_setting__keep() is 'Keeps the one row of settings.';
create or replace trigger tg_setting__keep before delete or truncate on mooring.setting for each statement execute function mooring_internal.tg_setting__keep();
