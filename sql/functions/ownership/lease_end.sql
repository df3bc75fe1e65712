-- The lease of one assignment begins with the beat that confirms it.
-- Until that beat the lease of its node counts too. A node that left has no lease.
create or replace function mooring_internal.lease_end(
  heartbeat mooring.heartbeat,
  assignment mooring.assignment
) returns timestamptz
  language sql stable
return case when heartbeat.session is null then '-infinity'
            else heartbeat.beat_at + greatest(
              assignment.lease_ttl,
              case when assignment.assigned_at > heartbeat.beat_at then heartbeat.lease_ttl end)
            end;
comment on function mooring_internal.lease_end(mooring.heartbeat, mooring.assignment) is
  'When the owner''s right to run an assignment ends, unless it beats again.';
