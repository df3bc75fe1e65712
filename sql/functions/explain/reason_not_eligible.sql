create or replace function mooring_internal.reason_not_eligible(predicates record) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return coalesce(mooring_internal.reason_not_permitted(predicates), case
    when not predicates.live then 'the node is not live'
    when not predicates.enabled then 'the node is disabled'
    when not predicates.not_draining then 'the node is draining or its agent is stopping'
    when not predicates.has_room then 'the node has max_assignments already'
    when not predicates.disk_ok then 'the node has too little free disk'
  end);
end;
$$;
comment on function mooring_internal.reason_not_eligible(record) is
  'Why a row of eligibility() is not eligible for new work; null when it is.';
