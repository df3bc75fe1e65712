-- Deletes expired requests: an answered one a minute after its answer, an open one a minute after
-- its time to wait. Every request, every answer and the prune round call it.
-- locks: log_request (skip locked)
create or replace function mooring_internal.forget_log_requests() returns void
  language sql volatile
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  delete from mooring_internal.log_request r
   where r.id in (
     select o.id
       from mooring_internal.log_request o
      where coalesce(o.answered_at, o.requested_at + o.wait) < clock_timestamp() - interval '1 min'
        for update skip locked);
end;
comment on function mooring_internal.forget_log_requests() is
  'Deletes log requests and answers that expired more than a minute ago.';
