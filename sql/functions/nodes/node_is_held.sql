create or replace function mooring_internal.node_is_held(held_until timestamptz) returns boolean
  language sql stable
return coalesce(held_until > clock_timestamp(), false);
comment on function mooring_internal.node_is_held(timestamptz) is
  'True while the work of a node waits for it, see hold_node().';
