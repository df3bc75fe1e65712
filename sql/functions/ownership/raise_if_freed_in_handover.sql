-- For edits by hand: a replica in a handover has two rows, and neither is freed or deleted alone.
create or replace function mooring_internal.raise_if_freed_in_handover(owned mooring.assignment)
  returns void
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if exists (
    select from mooring_internal.handover_rows() c
     where c.replica = owned.id or c.id = owned.id) then
    raise exception using errcode = 'MR006',
      message = format('assignment %s is being handed over', owned.id),
      hint = 'Its other row is in mooring.placement, see handover. '
        'Leave both to reap(): it releases them when lease and margin have ended.';
  end if;
end;
$$;
comment on function mooring_internal.raise_if_freed_in_handover(mooring.assignment) is
  'Raises MR006 when the assignment is one of two rows of a replica that is being handed over.';
