-- One hint per node and transaction: Postgres folds equal notifications of a transaction into one.
create or replace function mooring_internal.notify_nodes(node_ids int[]) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  if not mooring_internal.may_notify() then
    return;
  end if;
  perform pg_notify(mooring_internal.node_channel(n.id), '')
    from (
      select distinct u.id
        from unnest(notify_nodes.node_ids) u (id)
       where u.id is not null) n;
end;
$$;
comment on function mooring_internal.notify_nodes(int[]) is
  'Sends the agents of these nodes a hint to read what they own.';
