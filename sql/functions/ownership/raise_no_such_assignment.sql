create or replace function mooring_internal.raise_no_such_assignment(id bigint) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  known text;
begin
  select string_agg(k.id::text, ', ' order by k.id) into known
    from (select a.id
            from mooring.assignment a
           order by abs(a.id - raise_no_such_assignment.id), a.id
           limit 3) k;
  raise exception using errcode = 'MR003',
    message = format('there is no assignment %s',
      coalesce(raise_no_such_assignment.id::text, 'null')),
    hint = coalesce('The nearest ids are ' || known || '; see mooring.placement.',
      'There are no assignments at all: insert a deployment.');
end;
$$;
comment on function mooring_internal.raise_no_such_assignment(bigint) is
  'Raises MR003 with the nearest ids.';
