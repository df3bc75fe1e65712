-- log_requests_of: the open requests for logs of a node, oldest first. The agent reads them when it
-- receives the word 'log' on its channel, not with the beat: a fleet without log requests pays
-- nothing. A request that was returned counts as known: its hint is not repeated while the agent
-- waits for new lines.
-- locks: log_request (skip locked: noting that the agent knows a request is optional, and a request
--        that is being read delays no other)
create or replace function mooring.log_requests_of(node text, session uuid) returns table (
  request uuid,
  assignment_id bigint,
  from_byte bigint,
  tail_lines int,
  after text,
  max_bytes int,
  wait_ms int
)
  language plpgsql volatile security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  mine int := mooring_internal.node_of_session(log_requests_of.node, log_requests_of.session);
begin
  perform mooring_internal.limit_idle();
  update mooring_internal.log_request r
     set hinted_at = r.requested_at + r.wait
   where r.id = any (array(
     select l.id
       from mooring_internal.log_request l
      where l.node_id = mine
        and l.answered_at is null
        and l.hinted_at < l.requested_at + l.wait
        for update skip locked));
  return query
    select r.id, r.assignment_id, r.from_byte, r.tail_lines, r.after, r.max_bytes,
        mooring_internal.milliseconds(
          greatest(r.requested_at + r.wait - clock_timestamp(), interval '0'))
      from mooring_internal.log_request r
     where r.node_id = mine
       and r.answered_at is null
       and r.requested_at + r.wait > clock_timestamp() - interval '1 min'
     order by r.requested_at
     limit 200;
end;
$$;
comment on function mooring.log_requests_of(text, uuid) is
  'The slices of logs that are requested from a node and not answered, 200 at most. '
  'wait_ms: milliseconds that are left to wait for new lines.';
