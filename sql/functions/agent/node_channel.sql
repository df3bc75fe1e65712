create or replace function mooring_internal.node_channel(node_id int) returns text
  language sql immutable parallel safe
return 'mooring_node_' || node_id::text;
comment on function mooring_internal.node_channel(int) is
  'Channel that the agent of a node listens on. A notification is a hint: read assignments_of() '
  'again.';
