-- Names in a sentence: the first few, and how many more there are.
create or replace function mooring.some_of(names text[], at_most int default 3) returns text
  language sql immutable parallel safe
return array_to_string(names[1:at_most], ', ') || case when cardinality(names) > at_most then format(' and %s more', cardinality(names) - at_most) else '' end;
comment on function mooring.some_of(text[], int) is 'The first few of some names, and how many more there are; null for none.';

create or replace function mooring.how_long(past interval) returns text
  language sql immutable parallel safe
return case when past < interval '10 s' then trim_scale(round(extract(epoch from past), 1)) || ' s' when past < interval '2 min' then round(extract(epoch from past)) || ' s' else date_trunc('second', justify_hours(past))::text end;
comment on function mooring.how_long(interval) is 'A duration for people: 2.5 s, 40 s, 00:03:12, 2 days 04:00:00.';
