-- answer_log: stores the slice of a log that was requested from an agent, or why there is none.
-- Returns false when the request is gone, is answered already, or belongs to another node.
-- locks: log_request
create or replace function mooring.answer_log(
  node text,
  session uuid,
  request uuid,
  start_byte bigint,
  data bytea,
  next text,
  more boolean,
  size bigint,
  error text
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  mine int := mooring_internal.node_of_session(answer_log.node, answer_log.session);
begin
  if octet_length(answer_log.data) > 131072 then
    raise exception using
      errcode = 'MR007',
      message = format('a slice of %s bytes', octet_length(answer_log.data)),
      hint = 'A slice has at most 128 KiB, and at most max_bytes of its request.';
  elsif (answer_log.data is null) = (answer_log.error is null) then
    raise exception using
      errcode = 'MR007',
      message = 'an answer is a slice or an error',
      hint = 'Give one of data and error, and null for the other.';
  end if;
  perform mooring_internal.limit_idle();
  perform mooring_internal.forget_log_requests();
  update mooring_internal.log_request r
     set answered_at = clock_timestamp(),
         start_byte = answer_log.start_byte,
         data = answer_log.data,
         next = answer_log.next,
         more = answer_log.more,
         size = answer_log.size,
         error = left(answer_log.error, 2000)
   where r.id = answer_log.request and r.node_id = mine and r.answered_at is null;
  return found;
end;
$$;
comment on function mooring.answer_log(
  text, uuid, uuid, bigint, bytea, text, boolean, bigint, text) is
  'Answers a request for a log with a slice or an error. false: the request is not open any more.';
