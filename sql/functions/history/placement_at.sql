-- Who owned what at an instant, daemons included.
-- Per assignment the latest epoch that had begun by then counts, so there is at most one owner,
-- whatever the clock did. Ownership does not say that the instance ran: its owner may still have
-- been starting or already stopping it. The events of that time tell.
create or replace function mooring.placement_at(at timestamptz) returns table (
  assignment_id bigint,
  deployment_id bigint,
  node text,
  epoch bigint,
  since timestamptz,
  why text
)
  language plpgsql stable security definer rows 1000
  set search_path = pg_catalog, mooring, pg_temp
as $$
#variable_conflict use_column
declare
  retention interval := (select s.event_retention from mooring.setting s);
begin
  if placement_at.at is null or placement_at.at < clock_timestamp() - retention then
    raise exception using errcode = 'MR007',
      message = case when placement_at.at is null then 'the instant is missing'
        else format('history is kept for %s, and %s is before that', retention, placement_at.at)
        end,
      hint = 'Name a later instant, such as now() - interval ''1 hour''; '
        'setting.event_retention says how long history is kept.';
  end if;
  return query
    select l.assignment_id, l.deployment_id, l.node, l.epoch, l.began_at, l.reason
      from (select distinct on (o.assignment_id) o.*
              from mooring.ownership o
             where o.began_at <= placement_at.at
             order by o.assignment_id desc, o.epoch desc) l
     where l.node_id is not null
     order by l.assignment_id;
end;
$$;
comment on function mooring.placement_at(timestamptz) is
  'Who owned what at that instant, within setting.event_retention.';
