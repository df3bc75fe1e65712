-- Everything reads the one row of setting. Without it no agent could beat, and every node would end
-- what it runs.
create or replace function mooring_internal.tg_setting__keep() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'MR006',
    message = 'the row of mooring.setting cannot be deleted',
    hint = 'Every agent and worker reads it. Update it instead; '
      'to reset a setting: update mooring.setting set lease_ttl = default;';
end;
$$;
comment on function mooring_internal.tg_setting__keep() is 'Keeps the one row of settings.';
create or replace trigger tg_setting__keep
  before delete or truncate on mooring.setting
  for each statement
  execute function mooring_internal.tg_setting__keep();

create or replace function mooring_internal.tg_setting__record() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  insert into mooring.event (kind, reason, detail)
  select 'setting_changed',
      (select string_agg(k, ', ') from jsonb_object_keys(c.changes) k),
      c.changes
    from (select mooring_internal.changed_columns(to_jsonb(old), to_jsonb(new)) as changes) c
   where c.changes is not null;
  return null;
end;
$$;
comment on function mooring_internal.tg_setting__record() is
  'An event says which settings were changed, from what to what, and by whom.';
create or replace trigger tg_setting__record
  after update on mooring.setting
  for each row
  execute function mooring_internal.tg_setting__record();
