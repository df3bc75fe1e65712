-- A verb that locks what others need must not stay forgotten in an open transaction.
-- From this call on, the server ends the transaction when its session idles in it too long.
-- The limit is `patience`, by default setting.placement_lock_timeout.
-- A shorter limit that is already in force stays.
create or replace function mooring_internal.limit_idle(
  patience interval default null
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force interval :=
    nullif(current_setting('idle_in_transaction_session_timeout')::interval, interval '0');
begin
  patience := coalesce(patience, (select s.placement_lock_timeout from mooring.setting s));
  if in_force is null or in_force > patience then
    perform set_config(
      'idle_in_transaction_session_timeout',
      greatest(1, mooring_internal.milliseconds(patience))::text,
      true);
  end if;
end;
$$;
comment on function mooring_internal.limit_idle(interval) is
  'Lets the server end the current transaction when its session idles in it for longer than this '
  '(null: setting.placement_lock_timeout).';
