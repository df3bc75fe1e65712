create or replace function mooring_internal.ownership_digest(lines text[]) returns text
  language sql stable parallel safe
return encode(sha256(convert_to(coalesce(array_to_string(lines, ','), ''), 'UTF8')), 'hex');
comment on function mooring_internal.ownership_digest(text[]) is
  'SHA-256 of the lines assignment:epoch:generation:wanted:on_lost:stop_grace_ms, in order of '
  'assignment.';
