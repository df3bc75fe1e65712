-- report: what an agent observed, a batch at a time. A row counts only for the assignment and epoch
-- that this node owns now. A report of an old epoch changes nothing (accepted = false).
-- stopped frees an assignment that shall stop. refused frees it, and this node does not get it
-- again until the spec changes. accepted = null: the row is locked at the moment, report again.
-- locks: run, then assignment (skip locked)
create or replace function mooring.report(node text, session uuid, rows jsonb)
  returns table (assignment_id bigint, epoch bigint, accepted boolean)
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  own_id int := mooring_internal.node_of_session(report.node, report.session);
  stopped bigint[];
  stopped_epochs bigint[];
  refused bigint[];
  refused_epochs bigint[];
  freed bigint[];
  arrived boolean;
  failed bigint[];
begin
  if jsonb_typeof(report.rows) is distinct from 'array' then
    raise exception using
      errcode = 'MR007',
      message = 'a report is an array of objects';
  end if;
  if pg_column_size(report.rows) > 67108864 then
    raise exception using
      errcode = 'MR007',
      message = 'a report is larger than 64 MiB',
      hint = 'Report fewer assignments at once.';
  end if;
  perform mooring_internal.limit_idle();
  with latest as materialized (
    -- of several rows for an assignment the last one counts
    select distinct on (r.assignment_id, r.epoch) r.*
      from
        rows from (
          jsonb_to_recordset(report.rows) as (
            assignment_id bigint,
            epoch bigint,
            generation bigint,
            state text,
            pid int,
            restarts int,
            exit_code int,
            exit_signal text,
            error text,
            next_start_in_ms float8)
        ) with ordinality r
     order by r.assignment_id, r.epoch, r.ordinality desc
  ),
  current as materialized (
    select h.*, a.deployment_id, a.wanted, a.ordinal, a.move_reason
      from latest h
      join mooring.assignment a
        on a.id = h.assignment_id and a.epoch = h.epoch and a.node_id = own_id
  ),
  observed as (
    insert into mooring.run as r (
      assignment_id,
      deployment_id,
      node_id,
      epoch,
      generation,
      state,
      pid,
      restarts,
      exit_code,
      exit_signal,
      last_error,
      last_error_at,
      next_start_at,
      last_deployed_at,
      last_active_at)
    select c.assignment_id,
        c.deployment_id,
        own_id,
        c.epoch,
        coalesce(c.generation, 0),
        c.state,
        c.pid,
        coalesce(c.restarts, 0),
        c.exit_code,
        left(c.exit_signal, 40),
        left(c.error, 2000),
        case when c.error is not null then clock_timestamp() end,
        clock_timestamp() + c.next_start_in_ms * interval '1 ms',
        case when c.state = 'running' then clock_timestamp() end,
        clock_timestamp()
      from current c
     order by c.assignment_id
    on conflict (assignment_id) do update
       set deployment_id = excluded.deployment_id,
           node_id = excluded.node_id,
           epoch = excluded.epoch,
           generation = excluded.generation,
           state = excluded.state,
           pid = excluded.pid,
           restarts = excluded.restarts,
           exit_code = coalesce(
             excluded.exit_code, case when excluded.exit_signal is null then r.exit_code end),
           exit_signal = coalesce(
             excluded.exit_signal, case when excluded.exit_code is null then r.exit_signal end),
           -- an attempt that runs at last ends the errors of those before it; after a restart the
           -- error says why it was one
           last_error = case
             when excluded.last_error is not null
               or excluded.state = 'running' and excluded.restarts = 0
               then excluded.last_error
             else r.last_error
           end,
           last_error_at = case
             when excluded.last_error is not null
               or excluded.state = 'running' and excluded.restarts = 0
               then excluded.last_error_at
             else r.last_error_at
           end,
           next_start_at = excluded.next_start_at,
           last_deployed_at = case
             when excluded.state = 'running'
               and (
                 r.last_deployed_at is null
                 or (r.epoch, r.generation) is distinct from (excluded.epoch, excluded.generation)
                 or r.state in ('installing', 'starting') and r.restarts = excluded.restarts)
               then clock_timestamp()
             else r.last_deployed_at
           end,
           last_active_at = clock_timestamp()
     where excluded.epoch >= r.epoch
  )
  select array_agg(c.assignment_id) filter (where c.state = 'stopped' and c.wanted = 'stop'),
      array_agg(c.epoch) filter (where c.state = 'stopped' and c.wanted = 'stop'),
      array_agg(c.assignment_id) filter (where c.state = 'refused' and c.ordinal is not null),
      array_agg(c.epoch) filter (where c.state = 'refused' and c.ordinal is not null),
      bool_or(
        c.move_reason is not null
        and c.wanted = 'run'
        and c.state not in ('installing', 'starting')),
      array_agg(distinct c.deployment_id) filter (where c.state in ('backoff', 'failed'))
    into stopped, stopped_epochs, refused, refused_epochs, arrived, failed
    from current c;
  if failed is not null then
    perform mooring_internal.note_trouble(
      array_fill(own_id, array[cardinality(failed)]), failed);
  end if;
  if arrived then
    -- a drain goes on when what it moved runs elsewhere
    perform mooring_internal.enqueue('place');
  end if;
  select array_agg(f.id) into freed
    from (
      select a.id
        from mooring_internal.release(
          stopped, stopped_epochs, 'released', 'its processes are gone') a
      union all
      select a.id
        from mooring_internal.release(
          refused, refused_epochs, 'refused', 'the agent will not run it') a) f;
  update mooring.assignment a
     set refused_by = array_append(a.refused_by, own_id),
         signature = mooring_internal.queue_signature(
           d.signature, array_append(a.refused_by, own_id)),
         updated_at = clock_timestamp()
    from mooring.deployment d
   where a.id = any (refused)
     and a.id = any (freed)
     and d.id = a.deployment_id
     and own_id <> all (a.refused_by);
  return query
    select h.assignment_id,
        h.epoch,
        case
          when h.assignment_id = any (freed) then true
          when not exists (
            select from mooring.assignment a
             where a.id = h.assignment_id and a.epoch = h.epoch and a.node_id = own_id)
            then false
          when h.assignment_id = any (stopped) or h.assignment_id = any (refused) then null
          else true
        end
      from jsonb_to_recordset(report.rows) h (assignment_id bigint, epoch bigint);
end;
$$;
comment on function mooring.report(text, uuid, jsonb) is
  'Stores what an agent observed of its assignments and frees what has stopped or was refused. '
  'accepted is false for an old epoch, and null for a row that is locked: report it again.';
