-- YAML and SQL have booleans and numbers, and a command line has texts only. So gpu: true of a
-- file, --label gpu=true of an agent and "gpu": "true" mean the same.
create or replace function mooring_internal.label_texts(labels jsonb) returns jsonb
  language sql immutable parallel safe
return case
  when label_texts.labels = '{}' then label_texts.labels
  else (
    select jsonb_object_agg(
        e.key,
        case
          when jsonb_typeof(e.value) in ('boolean', 'number') then to_jsonb(e.value #>> '{}')
          else e.value
        end)
      from jsonb_each(label_texts.labels) e)
end;
comment on function mooring_internal.label_texts(jsonb) is
  'Labels as they are compared: booleans and numbers as texts.';
