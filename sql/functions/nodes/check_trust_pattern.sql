-- A trust pattern is read twice: by Postgres in the claim and by JavaScript in the agent. It may
-- use only what both read alike: literals, . | ( ) (?: [ ] ^ $ * + ? {m,n}, and escapes of
-- punctuation or \d \w \s. Everything else is rejected by name.
create or replace function mooring_internal.check_trust_pattern(pattern text) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  fault text;
  -- with a letter for each escaped character
  bare text := regexp_replace(pattern, '\\.', 'x', 'g');
begin
  if pattern is null then
    return;
  end if;
  fault := case
    when length(pattern) > 1000 then 'it is longer than 1000 characters'
    when pattern ~ '[^ -~]' then 'it has a character that is not printable ASCII'
    when pattern ~ '^[*][*][*]' then 'it starts with ***'
    when bare ~ '[(][?]([^:]|$)'
      then 'of the groups (? only (?: is read alike by Postgres and JavaScript'
    when bare ~ '\[\^?\]'
      then 'Postgres reads [] and [^] as the beginning of a set, JavaScript as an empty one'
    when bare ~ '\[\^?[^]]*\[[:.=]' then 'it has a [: [. or [= class'
    when pattern ~ '\\([A-Za-z0-9]|$)'
      and regexp_replace(pattern, '\\(\\|[^A-Za-z0-9]|[dwsDWS])', '', 'g') ~ '\\'
      then 'of the escapes only \d \w \s \D \W \S and punctuation '
        'are read alike by Postgres and JavaScript'
  end;
  if fault is null then
    begin
      perform 'x@1' ~ pattern;
    exception when others then
      fault := sqlerrm;
    end;
  end if;
  if fault is not null then
    raise exception using
      errcode = 'MR007',
      message = format('trust pattern %s cannot be used: %s', quote_literal(pattern), fault),
      hint = 'Write a plain regular expression on name@version, '
        'for example ^@acme/ or ^(http-server|serve)@.';
  end if;
end;
$$;
comment on function mooring_internal.check_trust_pattern(text) is
  'Raises MR007 where Postgres and JavaScript would not read a trust pattern alike.';
