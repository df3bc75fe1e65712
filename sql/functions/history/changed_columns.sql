-- For tables with few rows. It takes rows as jsonb, so that a new column needs no edit here.
create or replace function mooring_internal.changed_columns(before jsonb, after jsonb)
  returns jsonb
  language sql immutable
  set search_path = pg_catalog, pg_temp
begin atomic
  select jsonb_object_agg(a.key, jsonb_build_array(b.value, a.value))
    from jsonb_each(changed_columns.after) a
    join jsonb_each(changed_columns.before) b on b.key = a.key
   where a.value <> b.value;
end;
comment on function mooring_internal.changed_columns(jsonb, jsonb) is
  'What differs between two versions of a row, as {column: [before, after]}; null for nothing.';
