-- One expression, so that it inlines: see change().
create or replace function mooring_internal.hidden_change(before anyelement, after anyelement)
  returns text
  language sql immutable
as $$
  select case when before is distinct from after then 'changed' end
$$;
comment on function mooring_internal.hidden_change(anyelement, anyelement) is
  'Like change(), for a column whose values may be secret: "changed" or null.';
