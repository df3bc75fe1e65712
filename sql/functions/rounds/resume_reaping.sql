-- resume_reaping: an operator declares the silent nodes dead. reap() goes on in spite of their
-- number, until enough of them are back or forgotten. The next outage pauses reaping again.
-- locks: reap_pause
create or replace function mooring.resume_reaping() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  resumed text;
begin
  perform mooring_internal.limit_idle();
  update mooring_internal.reap_pause p
     set resumed_at = clock_timestamp(), resumed_by = session_user
   where p.paused_at is not null and p.resumed_at is null
  returning p.reason into resumed;
  if resumed is null then
    return false;
  end if;
  perform mooring_internal.add_event('reaping_resumed', 'an operator resumed it: ' || resumed);
  update mooring_internal.round r
     set due_at = clock_timestamp()
   where r.name = (
     select l.name
       from mooring_internal.round l
      where l.name = 'reap'
        for update skip locked);
  perform mooring_internal.enqueue('reap');
  return true;
end;
$$;
comment on function mooring.resume_reaping() is
  'Lets reap() free the work of the silent nodes although they are so many, until their share has '
  'fallen again. Returns false when reaping was not paused.';
