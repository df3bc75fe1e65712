create or replace function mooring_internal.raise_hold(done text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  raise exception using
    errcode = 'MR006',
    message = format(
      'nothing is %s during a hold: %s', raise_hold.done, mooring_internal.hold_reason()),
    hint = format(
      'It ends at %s; see mooring.fleet.',
      (select p.hold_until from mooring_internal.pulse p));
end;
$$;
comment on function mooring_internal.raise_hold(text) is
  'Raises MR006: a hold is on, so nothing is moved (or restarted, as `done` says).';
