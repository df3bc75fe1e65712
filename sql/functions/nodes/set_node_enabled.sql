-- set_node_enabled: a disabled node keeps what it runs and gets nothing new. An unknown name is an
-- error that gives the nearest ones.
-- locks: node
create or replace function mooring.set_node_enabled(name text, enabled boolean)
  returns mooring.node
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node := mooring_internal.node_named(set_node_enabled.name);
begin
  if set_node_enabled.enabled is null then
    raise exception using
      errcode = 'MR007',
      message = 'enabled is null',
      hint = 'Give true or false.';
  end if;
  perform mooring_internal.limit_idle();
  update mooring.node n
     set enabled = set_node_enabled.enabled
   where n.id = node.id and n.enabled <> set_node_enabled.enabled;
  return mooring_internal.node_named(set_node_enabled.name);
end;
$$;
comment on function mooring.set_node_enabled(text, boolean) is
  'Opens a node for new work, or closes it; what runs there stays. Returns the node.';
