-- Live: a session holds the name, and by the database clock its lease has not ended.
create or replace function mooring_internal.node_is_live(
  heartbeat mooring.heartbeat
) returns boolean
  language sql stable
return heartbeat.session is not null
  and heartbeat.beat_at + heartbeat.lease_ttl > clock_timestamp();
comment on function mooring_internal.node_is_live(mooring.heartbeat) is
  'True while the node''s lease runs.';
