create or replace function mooring_internal.placement_lock_holder() returns int
  language sql stable
  set search_path = pg_catalog, mooring, pg_temp
return (
  select l.pid
    from pg_locks l
   where l.locktype = 'advisory'
     and l.granted
     and l.database = (select d.oid from pg_database d where d.datname = current_database())
     and l.classid = mooring_internal.lock_space()
     and l.objid = mooring_internal.lock_key('placing')
     and l.objsubid = 2
   limit 1);
comment on function mooring_internal.placement_lock_holder() is
  'Pid of the backend that holds the placement lock; null when none does.';
