-- Who owned an assignment: one row for each epoch that had an owner, oldest first.
-- An epoch ends where a later epoch begins. When the clock was set back in between, the earliest
-- later beginning counts, so that no instant has two owners here either.
-- The history reaches back as far as setting.event_retention. The present owner is always in it.
create or replace function mooring.history(assignment bigint) returns table (
  epoch bigint,
  node text,
  since timestamptz,
  until timestamptz,
  why text,
  actor text,
  ended_why text,
  ended_by text
)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select from mooring.ownership o where o.assignment_id = history.assignment)
     and not exists (select from mooring.assignment a where a.id = history.assignment) then
    perform mooring_internal.raise_no_such_assignment(history.assignment);
  end if;
  return query
    select o.epoch, o.node, o.since, o.until, o.why, o.actor, o.ended_why, o.ended_by
      from (select w.epoch, w.node_id, w.node, w.began_at as since,
                min(w.began_at) over later as until, w.reason as why, w.actor,
                first_value(w.reason) over later as ended_why,
                first_value(w.actor) over later as ended_by
              from mooring.ownership w
             where w.assignment_id = history.assignment
            window later as
              (order by w.epoch rows between 1 following and unbounded following)) o
     where o.node_id is not null
     order by o.epoch;
end;
$$;
comment on function mooring.history(bigint) is
  'Who owned an assignment from when until when (null: still), why it came there and why it left. '
  'Oldest first.';
