-- Ends the current transaction when it is not over within `patience`, in a long statement too.
-- With transaction_timeout (PostgreSQL 17) that is counted from this call, and a later call counts
-- again. Before, each later statement has so long, which a session that cannot speak any more
-- sends none of. A shorter limit of the session's own stays: the first call remembers it until the
-- transaction ends.
create or replace function mooring_internal.limit_transaction(patience interval) returns void
  language plpgsql volatile
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  has_one constant boolean := current_setting('server_version_num')::int >= 170000;
  limiting constant text :=
    case when has_one then 'transaction_timeout' else 'statement_timeout' end;
  own text := coalesce(
    nullif(current_setting('mooring.own_limit', true), ''), current_setting(limiting));
  own_left interval := nullif(own::interval, interval '0')
    - case when has_one then clock_timestamp() - now() else interval '0' end;
begin
  perform set_config('mooring.own_limit', own, true);
  -- a timer that runs is set anew only after it was switched off
  perform set_config(limiting, '0', true);
  perform set_config(
    limiting,
    greatest(1, mooring_internal.milliseconds(
      least(own_left, limit_transaction.patience)))::text,
    true);
end;
$$;
comment on function mooring_internal.limit_transaction(interval) is
  'Lets the server end the current transaction when it is not over within this; before PostgreSQL '
  '17 each of its later statements.';
