-- Stable, as the text of an interval is: declared immutable it would not inline.
create or replace function mooring_internal.format_duration(past interval) returns text
  language sql stable parallel safe
return case when past < interval '10 s' then trim_scale(round(extract(epoch from past), 1)) || ' s'
            when past < interval '2 min' then round(extract(epoch from past)) || ' s'
            else date_trunc('second', justify_hours(past))::text end;
comment on function mooring_internal.format_duration(interval) is
  'A duration for people: 2.5 s, 40 s, 00:03:12, 2 days 04:00:00.';
