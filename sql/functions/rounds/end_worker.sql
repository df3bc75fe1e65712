-- end_worker: a worker that was stopped and has given its jobs back says so. Otherwise the others
-- would find it silent, and tell of a loss.
-- locks: worker
create or replace function mooring_internal.end_worker(worker text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  perform mooring_internal.limit_idle();
  delete from mooring_internal.worker w
   where w.id = end_worker.worker;
  if found then
    insert into mooring.event (kind, reason, detail)
    values ('worker_ended', 'it was stopped', jsonb_build_object('worker', end_worker.worker));
  end if;
end;
$$;
comment on function mooring_internal.end_worker(text) is
  'The orderly end of a worker, after its jobs: it is no longer expected to tick.';
