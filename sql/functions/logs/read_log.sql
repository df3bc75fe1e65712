-- read_log: returns the answer to request_log() once, because reading deletes it. No row means that
-- the answer has not come yet: call again. Each call repeats the hint to the agent when the last
-- one is a second old, so a lost notification costs one second. Ten seconds after the time to wait
-- has passed without an answer, it raises MR006.
-- locks: log_request
create or replace function mooring.read_log(request uuid) returns table (
  assignment_id bigint,
  node text,
  start_byte bigint,
  data bytea,
  next text,
  more boolean,
  size bigint,
  error text
)
  language plpgsql volatile security definer rows 1
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  asked mooring_internal.log_request;
begin
  -- the agent writes the same row: it notes that it knows the request, and answers
  perform mooring_internal.limit_idle();
  delete from mooring_internal.log_request r
   where r.id = read_log.request
     and r.answered_at is not null
     and mooring_internal.acts_for(r.requested_by)
  returning r.* into asked;
  if asked.id is not null then
    return query
      select asked.assignment_id,
          (select n.name from mooring.node n where n.id = asked.node_id),
          asked.start_byte, asked.data, asked.next, asked.more, asked.size, asked.error;
    return;
  end if;
  select r.* into asked
    from mooring_internal.log_request r
   where r.id = read_log.request and mooring_internal.acts_for(r.requested_by);
  if asked.id is null then
    raise exception using
      errcode = 'MR003',
      message = format(
        'there is no request %s for a log', coalesce(read_log.request::text, 'null')),
      hint = 'An answer can be read once, within a minute, and by the login that requested it. '
        'Request it again: select mooring.request_log(...).';
  elsif asked.answered_at is null
    and clock_timestamp() > asked.requested_at + asked.wait + interval '10 s'
  then
    perform mooring_internal.raise_no_answer(asked.node_id, asked.assignment_id);
  elsif clock_timestamp() > asked.hinted_at + interval '1 s' then
    update mooring_internal.log_request r
       set hinted_at = clock_timestamp()
     where r.id = asked.id and r.answered_at is null;
    perform mooring_internal.hint_log_request(asked.node_id);
  end if;
end;
$$;
comment on function mooring.read_log(uuid) is
  'The requested slice of a log, once. No row: it is not there yet, call again. '
  'data holds the bytes as written: log_text(data) shows them.';
