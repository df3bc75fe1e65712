-- show_log: the last lines of a log, from any host, in one statement: call mooring.show_log(7).
-- It is a procedure because the agent sees a request only after a commit. A procedure that commits
-- can be neither SECURITY DEFINER nor pin its search_path, so it does what its caller may do with
-- request_log() and read_log().
create or replace procedure mooring.show_log(
  assignment bigint,
  lines int default 50,
  node text default null,
  inout log text default null
)
  language plpgsql
as $$
declare
  request uuid;
  answer record;
  bytes bytea := '';
begin
  if statement_timestamp() <> transaction_timestamp() then
    raise exception using
      errcode = 'MR008',
      message = 'show_log() has to commit its request, and cannot in the middle of a transaction',
      hint = 'End the transaction first. Or call mooring.request_log(), commit, and then '
        'select mooring.log_text(data) from mooring.read_log(...).';
  end if;
  request := mooring.request_log(
    show_log.assignment, tail_lines => show_log.lines, node => show_log.node);
  loop
    commit;
    select r.* into answer
      from mooring.read_log(request) r;
    if not found then
      perform pg_catalog.pg_sleep(0.05);
      continue;
    elsif answer.error is not null then
      raise exception using
        errcode = 'MR006',
        message = answer.error,
        hint = pg_catalog.format(
          'mooring.history(%1$s) lists where else it ran: '
          'call mooring.show_log(%1$s, node => ...).',
          show_log.assignment);
    end if;
    bytes := bytes || answer.data;
    exit when not answer.more or pg_catalog.octet_length(bytes) > 1048576;
    request := mooring.request_log(
      show_log.assignment, after => answer.next, node => answer.node);
  end loop;
  log := mooring.log_text(bytes)
    || case
      when answer.more then pg_catalog.format(
        E'\n[1 MiB: for more type mooring logs %s]', show_log.assignment)
      else ''
    end;
end;
$$;
comment on procedure mooring.show_log(bigint, int, text, text) is
  'The last lines of a log, from the host it is on: call mooring.show_log(7), or with the number '
  'of lines: call mooring.show_log(7, 500). Without the frame of psql: end the statement with '
  '\g (format=unaligned tuples_only=on) in place of the semicolon.';
