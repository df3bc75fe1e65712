-- Alive: it has ticked within three periods, and three seconds for a busy machine.
create or replace function mooring_internal.worker_is_alive(worker mooring_internal.worker)
  returns boolean
  language sql stable
return worker.ticked_at
  > clock_timestamp() - 3 * mooring_internal.round_interval('reap') - interval '3 s';
comment on function mooring_internal.worker_is_alive(mooring_internal.worker) is
  'True while a worker process ticks.';
