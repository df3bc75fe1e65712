-- The error for a mistyped name gives the nearest names. Two names are alike when they share many
-- pairs of neighbouring letters. That finds swapped, missing and added letters, needs no extension,
-- and is one pass over the names.
create or replace function mooring_internal.raise_no_such_node(name text) returns void
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  typed text[] := mooring_internal.letter_pairs(raise_no_such_node.name);
  nearest text;
begin
  if raise_no_such_node.name is null then
    raise exception using
      errcode = 'MR007',
      message = 'the name of a node is missing',
      hint = 'See mooring.node_status for the names there are.';
  end if;
  select string_agg(c.name, ', ' order by c.alike desc, c.name) into nearest
    from (
      select n.name,
          2.0
            * cardinality(array(
              select unnest(mooring_internal.letter_pairs(n.name))
              intersect
              select unnest(typed)))
            / nullif(
              cardinality(mooring_internal.letter_pairs(n.name)) + cardinality(typed), 0) as alike
        from mooring.node n
       order by 2 desc, n.name
       limit 3) c;
  raise exception using
    errcode = 'MR003',
    message = format('there is no node %s', raise_no_such_node.name),
    hint = coalesce(
      'The nearest names are ' || nearest || '.',
      'No node has registered yet: start an agent.');
end;
$$;
comment on function mooring_internal.raise_no_such_node(text) is
  'Raises MR003 with the nearest names; MR007 where the name is null.';
