-- The signature a row queues under: its deployment's, apart where nodes refused this very row, so that such rows never stand before others.
-- Stable, because the text of an array is: declared immutable it could not be inlined, and cost a call for each of the rows released at once.
create or replace function mooring_internal.queue_signature(signature uuid, refused_by int[]) returns uuid
  language sql stable parallel safe
return case when refused_by = '{}' then signature else md5(signature::text || refused_by::text)::uuid end;
comment on function mooring_internal.queue_signature(uuid, int[]) is 'Signature under which an assignment waits.';
