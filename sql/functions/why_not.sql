-- The predicates of eligibility() in words, in the order in which they are asked.
create or replace function mooring.why_not_permitted(predicates record) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when not predicates.pin_ok then 'it is pinned to another node'
    when not predicates.selector_ok then 'the node lacks labels of the selector'
    when not predicates.driver_ok then 'the node does not run this kind of work (see node.drivers; custom commands need --allow-exec)'
    when not predicates.trust_ok then 'the node does not trust the package'
    when not predicates.urls_ok then 'the node has not both base URLs'
  end;
end;
$$;
comment on function mooring.why_not_permitted(record) is 'Why a row of eligibility() is not permitted; null when it is.';

create or replace function mooring.why_not_eligible(predicates record) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return coalesce(mooring.why_not_permitted(predicates), case
    when not predicates.live then 'the node is not live'
    when not predicates.enabled then 'the node is disabled'
    when not predicates.not_draining then 'the node is draining or its agent is stopping'
    when not predicates.has_room then 'the node has max_assignments already'
    when not predicates.disk_ok then 'the node has too little free disk'
  end);
end;
$$;
comment on function mooring.why_not_eligible(record) is 'Why a row of eligibility() is not eligible for new work; null when it is.';
