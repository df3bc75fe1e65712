-- The rule of the constraints node_name_is_a_plain_word and deployment_pinned_node_is_a_node_name,
-- with a way out in its message. The constraints spell the rule out instead of calling this: every
-- role that may insert would need the right to execute what they call.
create or replace function mooring_internal.check_node_name(name text) returns void
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if name is null or length(name) > 63 or name !~ '^[A-Za-z0-9][A-Za-z0-9._-]*$' then
    raise exception using
      errcode = 'MR007',
      message = format(
        '%s cannot be the name of a node', coalesce(quote_literal(name), 'null')),
      hint = 'Use 1 to 63 letters, digits, dots, underscores and hyphens, '
        'beginning with a letter or digit.';
  end if;
end;
$$;
comment on function mooring_internal.check_node_name(text) is
  'Raises MR007 for what cannot be the name of a node.';
