-- One expression, so that it inlines into the triggers that call it for every column of every row.
-- Polymorphic functions have no standard body, so its names are qualified instead.
create or replace function mooring_internal.change(before anyelement, after anyelement)
  returns jsonb
  language sql stable
as $$
  select case
    when before is distinct from after then pg_catalog.jsonb_build_array(before, after)
  end
$$;
comment on function mooring_internal.change(anyelement, anyelement) is
  '[before, after] of a column for event.detail; null where nothing changed.';
