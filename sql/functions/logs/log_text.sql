-- A log holds bytes. Bytes that are no text in this database are shown with escapes, not rejected.
create or replace function mooring.log_text(data bytea) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return convert_from(log_text.data, 'UTF8');
exception when data_exception or program_limit_exceeded then
  return encode(log_text.data, 'escape');
end;
$$;
comment on function mooring.log_text(bytea) is
  'A slice of a log as text; what is not UTF-8 is shown with escapes.';
