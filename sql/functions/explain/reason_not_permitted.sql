-- The predicates of eligibility() in words, in the order in which they are asked.
create or replace function mooring_internal.reason_not_permitted(predicates record) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when not predicates.pin_ok then 'it is pinned to another node'
    when not predicates.selector_ok then 'the node lacks labels of the selector'
    when not predicates.driver_ok then
      'the node does not run this kind of work '
      '(see node.drivers; custom commands, and variables such as PATH, need --allow-exec)'
    when not predicates.trust_ok then 'the node does not trust the package'
    when not predicates.urls_ok then 'the node does not have both base URLs'
  end;
end;
$$;
comment on function mooring_internal.reason_not_permitted(record) is
  'Why a row of eligibility() is not permitted; null when it is.';
