create or replace function mooring_internal.letter_pairs(word text) returns text[]
  language sql immutable parallel safe
return array(
  select distinct substr('^' || lower(word) || '$', g.at, 2)
    from generate_series(1, length(word) + 1) g (at));
comment on function mooring_internal.letter_pairs(text) is
  'Pairs of neighbouring letters of a word; ^ and $ mark its ends.';
