-- For verbs that order something of one assignment: they leave alone both rows of a replica that is
-- being handed over.
create or replace function mooring_internal.raise_if_in_handover(asked mooring.assignment)
  returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  other record;
begin
  select c.id, c.handover, n.name as node_name into other
    from mooring_internal.handover_rows() k
    join mooring.assignment c on c.id <> asked.id and c.id in (k.id, k.replica)
    left join mooring.node n on n.id = c.node_id
   where asked.id in (k.id, k.replica);
  if other.id is not null then
    raise exception using
      errcode = 'MR006',
      message = format('assignment %s %s', asked.id, case
        when asked.handover = 'arriving' then format(
          'is the successor of assignment %s on %s and does not run yet',
          other.id, other.node_name)
        when asked.handover = 'leaving' then format(
          'has been handed over to assignment %s on %s', other.id, other.node_name)
        when other.handover = 'arriving' then format(
          'is being handed over to assignment %s on %s', other.id, other.node_name)
        else format(
          'has taken over from assignment %s, which still stops on %s',
          other.id, other.node_name) end),
      hint = case
        when asked.handover = 'leaving' then format(
          'Assignment %s has taken its place.', other.id)
        else
          'Wait until it is done: mooring events -f, or select * from mooring.last_events(20).'
      end;
  end if;
end;
$$;
comment on function mooring_internal.raise_if_in_handover(mooring.assignment) is
  'Raises MR006 when the assignment is one of two rows of a replica that is being handed over.';
