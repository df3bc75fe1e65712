create or replace function mooring_internal.raise_no_answer(
  node_id int,
  assignment bigint
) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  -- a record, because the view is created after this function
  node record;
begin
  select s.* into node
    from mooring.node_status s
   where s.node_id = raise_no_answer.node_id;
  raise exception using
    errcode = 'MR006',
    message = format(
      'node %s does not answer, and the log is there: it is %s, %s',
      node.node,
      node.health,
      coalesce(
        'its last beat was ' || round(extract(epoch from node.beat_age), 1) || ' s ago',
        'it has never beaten')),
    hint = format(
      'Look at its agent, and at mooring status. mooring history %1$s lists where else it ran: '
      'then mooring logs %1$s --node NAME, or request_log(%1$s, node => ...).',
      assignment);
end;
$$;
comment on function mooring_internal.raise_no_answer(int, bigint) is
  'Raises MR006: the agent of the node does not answer a request for a log.';
