create or replace function mooring_internal.missing_labels(labels jsonb, selector jsonb)
  returns jsonb
  language sql stable parallel safe
return (
  select jsonb_object_agg(e.key, e.value)
    from jsonb_each(missing_labels.selector) e
   where not mooring_internal.label_texts(missing_labels.labels)
     @> mooring_internal.label_texts(jsonb_build_object(e.key, e.value)));
comment on function mooring_internal.missing_labels(jsonb, jsonb) is
  'The part of the selector that the labels lack.';
