-- A verb that locks what others need must not be forgotten in an open transaction: from here on the server ends this transaction when its session does nothing
-- for longer than the patience (setting.placement_lock_timeout, where none is given). A shorter limit that is in force already stays.
create or replace function mooring_internal.limit_idle(patience interval default null) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  in_force interval := nullif(current_setting('idle_in_transaction_session_timeout')::interval, interval '0');
begin
  patience := coalesce(patience, (select s.placement_lock_timeout from mooring.setting s));
  if in_force is null or in_force > patience then
    perform set_config('idle_in_transaction_session_timeout', greatest(1, mooring_internal.milliseconds(patience))::text, true);
  end if;
end;
$$;
comment on function mooring_internal.limit_idle(interval) is 'Lets the server end the present transaction when its session sits idle in it for longer than this.';
