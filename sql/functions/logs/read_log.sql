-- read_log: the answer to request_log(), once: reading deletes it. No row: not answered yet, ask again. Whoever asks repeats the hint to the agent once a second,
-- so a lost notification costs that second. After ten seconds of silence the node is said not to answer.
-- locks: log_request
create or replace function mooring.read_log(request uuid)
  returns table (assignment_id bigint, node text, start_byte bigint, data bytea, next text, more boolean, size bigint, error text)
  language plpgsql volatile security definer rows 1
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  asked mooring_internal.log_request;
begin
  -- the row is the agent's, too: it notes there that it knows of the request, and answers
  perform mooring_internal.limit_idle();
  delete from mooring_internal.log_request r where r.id = read_log.request and r.answered_at is not null and mooring_internal.acts_for(r.requested_by) returning r.* into asked;
  if asked.id is not null then
    return query select asked.assignment_id, (select n.name from mooring.node n where n.id = asked.node_id), asked.start_byte, asked.data, asked.next, asked.more, asked.size, asked.error;
    return;
  end if;
  select r.* into asked from mooring_internal.log_request r where r.id = read_log.request and mooring_internal.acts_for(r.requested_by);
  if asked.id is null then
    raise exception using errcode = 'MR003', message = format('there is no request %s for a log', coalesce(read_log.request::text, 'null')),
      hint = 'An answer is read once, within a minute, and by the login that asked. Ask again: select mooring.request_log(...).';
  elsif asked.answered_at is null and clock_timestamp() > asked.requested_at + asked.wait + interval '10 s' then
    perform mooring_internal.raise_no_answer(asked.node_id, asked.assignment_id);
  elsif clock_timestamp() > asked.hinted_at + interval '1 s' then
    update mooring_internal.log_request r set hinted_at = clock_timestamp() where r.id = asked.id and r.answered_at is null;
    perform mooring_internal.hint_log_request(asked.node_id);
  end if;
end;
$$;
comment on function mooring.read_log(uuid) is 'The slice that was asked for, once; no row while it is not there. data is as it was written: log_text(data) shows it.';
