-- Stable, as format() is: declared immutable it would not inline.
-- Names for a sentence: the first few, then how many more there are.
create or replace function mooring_internal.abbreviate_list(
  names text[],
  at_most int default 3
) returns text
  language sql stable parallel safe
return array_to_string(names[1:at_most], ', ')
  || case when cardinality(names) > at_most
          then format(' and %s more', cardinality(names) - at_most)
          else '' end;
comment on function mooring_internal.abbreviate_list(text[], int) is
  'The first names of a list, and how many more there are; null for a null list.';
