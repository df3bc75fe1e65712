-- The signature under which a row queues. It is its deployment's signature. A row that nodes
-- refused has a signature of its own, so that it never stands in front of other rows.
-- Stable, because the text of an array is stable. Declared immutable it would not inline, and would
-- cost a call for each row of a release.
create or replace function mooring_internal.queue_signature(
  signature uuid,
  refused_by int[]
) returns uuid
  language sql stable parallel safe
return case when refused_by = '{}' then signature
            else md5(signature::text || refused_by::text)::uuid end;
comment on function mooring_internal.queue_signature(uuid, int[]) is
  'Signature under which an assignment queues.';
