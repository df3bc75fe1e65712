-- Whoever mistypes a name is told the nearest ones. Alike are names that share many pairs of neighbouring letters: that finds swapped, missing and
-- added letters, needs no extension, and is one pass over the names.
create or replace function mooring.letter_pairs(word text) returns text[]
  language sql immutable parallel safe
return array(select distinct substr('^' || lower(word) || '$', g.at, 2) from generate_series(1, length(word) + 1) g (at));
comment on function mooring.letter_pairs(text) is 'Pairs of neighbouring letters of a word, its ends included.';
