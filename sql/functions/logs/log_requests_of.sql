-- log_requests_of: what an agent is asked for, the oldest first. Read when it hears the word 'log' on its channel, and not with the beat: a fleet in which nobody asks
-- for a log pays nothing. What it was given it knows of: while it waits for something new, the hint is not repeated.
-- locks: log_request (skip locked: that it knows of a request need not be noted, and one that somebody is reading holds up no other)
create or replace function mooring.log_requests_of(node text, session uuid)
  returns table (request uuid, assignment_id bigint, from_byte bigint, tail_lines int, after text, max_bytes int, wait_ms int)
  language plpgsql volatile security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  mine int := mooring_internal.node_of_session(log_requests_of.node, log_requests_of.session);
begin
  perform mooring_internal.limit_idle();
  update mooring_internal.log_request r set hinted_at = r.requested_at + r.wait
   where r.id = any (array(select l.id from mooring_internal.log_request l where l.node_id = mine and l.answered_at is null and l.hinted_at < l.requested_at + l.wait for update skip locked));
  return query
    select r.id, r.assignment_id, r.from_byte, r.tail_lines, r.after, r.max_bytes, mooring_internal.milliseconds(greatest(r.requested_at + r.wait - clock_timestamp(), interval '0'))
      from mooring_internal.log_request r
     where r.node_id = mine and r.answered_at is null and r.requested_at + r.wait > clock_timestamp() - interval '1 min'
     order by r.requested_at limit 200;
end;
$$;
comment on function mooring.log_requests_of(text, uuid) is 'The slices of logs that are asked of a node and not answered; wait_ms is what is left of the time to wait for something new.';
