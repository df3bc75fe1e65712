-- request_log: requests a slice of an assignment's log from the agent that has it. Returns the id
-- under which read_log() finds the answer, once this transaction is committed. The agent is that of
-- the node given; else of the owner; else of the last owner. Offsets count all that is kept,
-- rotated parts included. A slice begins at one of three places:
--   from_byte   0 is the oldest byte that is kept; a negative number counts from the end
--   tail_lines  so many lines before the end; 200 when none of the three is given
--   after       the `next` of an earlier answer; it holds although the log was rotated since
-- wait: how long the agent waits for new lines when there are none.
-- Limits: 128 KiB a slice, 150 open requests a login and 200 a node, so that no login fills a node
-- alone. They are counted without a lock, so concurrent sessions may exceed them by their number.
-- locks: none (deletes expired requests, skip locked)
create or replace function mooring.request_log(
  assignment bigint,
  from_byte bigint default null,
  tail_lines int default null,
  after text default null,
  max_bytes int default 131072,
  node text default null,
  wait interval default '0'
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  holder mooring.node;
  of_node int;
  of_login int;
  request uuid;
begin
  if num_nonnulls(request_log.from_byte, request_log.tail_lines, request_log.after) > 1 then
    raise exception using
      errcode = 'MR007',
      message = 'a slice begins at from_byte, at tail_lines before the end, or at after: give one',
      hint = 'Leave all out for the last 200 lines.';
  elsif request_log.max_bytes is null or request_log.max_bytes not between 1 and 131072 then
    raise exception using
      errcode = 'MR007',
      message = format('max_bytes is %s', coalesce(request_log.max_bytes::text, 'null')),
      hint = 'A slice has 1 to 131072 bytes (128 KiB); pass its next as after to continue.';
  elsif request_log.tail_lines not between 0 and 1000000 then
    raise exception using
      errcode = 'MR007',
      message = format('tail_lines is %s', request_log.tail_lines),
      hint = 'Give 0 to 1000000; from_byte => 0 is the oldest byte that is kept.';
  elsif request_log.wait is null
    or not request_log.wait between interval '0' and interval '30 s'
  then
    raise exception using
      errcode = 'MR007',
      message = format('wait is %s', coalesce(request_log.wait::text, 'null')),
      hint = 'An agent waits at most 30 s; then request the log again.';
  elsif request_log.after !~ '^\d{1,2}:\d{1,15}:\d{1,4}:[0-9a-f]{16}$' then
    raise exception using
      errcode = 'MR007',
      message = format('%L is no place in a log', left(request_log.after, 100)),
      hint = 'after takes the next of an earlier answer, unchanged.';
  end if;
  if request_log.node is not null then
    holder := mooring_internal.node_named(request_log.node);
  else
    select n.* into holder
      from mooring.assignment a
      join mooring.node n on n.id = a.node_id
     where a.id = request_log.assignment;
    if holder.id is null then
      select n.* into holder
        from mooring.ownership o
        join mooring.node n on n.id = o.node_id
       where o.assignment_id = request_log.assignment
       order by o.epoch desc
       limit 1;
    end if;
  end if;
  if holder.id is null
    and exists (select from mooring.assignment a where a.id = request_log.assignment)
  then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s has not run anywhere yet', request_log.assignment),
      hint = format(
        'mooring.explain(%s) says why.',
        (select a.deployment_id from mooring.assignment a where a.id = request_log.assignment));
  elsif holder.id is null or request_log.assignment is null then
    perform mooring_internal.raise_no_such_assignment(request_log.assignment);
  end if;
  if not exists (
    select from mooring.heartbeat h
     where h.node_id = holder.id and mooring_internal.node_is_live(h))
  then
    perform mooring_internal.raise_no_answer(holder.id, request_log.assignment);
  end if;
  perform mooring_internal.forget_log_requests();
  select
      count(*) filter (where r.node_id = holder.id),
      count(*) filter (where r.requested_by = session_user)
    into of_node, of_login
    from mooring_internal.log_request r;
  if of_node >= 200 or of_login >= 150 then
    raise exception using
      errcode = 'MR007',
      message = case
        when of_node >= 200
          then format('%s log requests are open at node %s', of_node, holder.name)
        else format('%s log requests of %s are open', of_login, session_user) end,
      hint = 'Read the answers: read_log() closes a request, and so does a minute without it. '
        'Each mooring logs -f holds one request for every log it follows.';
  end if;
  insert into mooring_internal.log_request
    (assignment_id, node_id, from_byte, tail_lines, after, max_bytes, wait)
  values (
    request_log.assignment,
    holder.id,
    request_log.from_byte,
    case
      when num_nonnulls(request_log.from_byte, request_log.tail_lines, request_log.after) = 0
        then 200
      else request_log.tail_lines
    end,
    request_log.after,
    request_log.max_bytes,
    request_log.wait)
  returning id into request;
  perform mooring_internal.hint_log_request(holder.id);
  return request;
end;
$$;
comment on function mooring.request_log(bigint, bigint, int, text, int, text, interval) is
  'Requests a slice of a log, 128 KiB at most, from the agent that has it. '
  'Commit, then read_log() returns it a moment later. In psql: call mooring.show_log(7).';
