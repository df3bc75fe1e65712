-- Sends the word 'log' on the node's channel. The word differs from other hints, so an agent that
-- receives it does not read its assignments again.
create or replace function mooring_internal.hint_log_request(node_id int) returns void
  language sql volatile
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select pg_notify(mooring_internal.node_channel(hint_log_request.node_id), 'log')
   where mooring_internal.may_notify();
end;
comment on function mooring_internal.hint_log_request(int) is
  'Notifies the agent of a node to read log_requests_of().';
