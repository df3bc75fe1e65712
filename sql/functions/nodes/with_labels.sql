create or replace function mooring_internal.with_labels(labels jsonb, changes jsonb) returns jsonb
  language sql immutable parallel safe
return case
  when with_labels.changes is null then with_labels.labels
  else jsonb_strip_nulls(with_labels.labels || with_labels.changes)
end;
comment on function mooring_internal.with_labels(jsonb, jsonb) is
  'The labels with the changes: a key is added or changed, and one with the value null is taken '
  'away.';
