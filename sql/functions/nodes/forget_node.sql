-- forget_node: deletes a node and its heartbeat row; its daemons end with it. It is refused while
-- the node's agent lives or the node owns work, because processes would run on without an owner.
-- History keeps the name.
-- locks: placement, then node, then heartbeat
create or replace function mooring.forget_node(name text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
  set lock_timeout = '5s'
as $$
declare
  node mooring.node;
  beat mooring.heartbeat;
  owned int;
begin
  perform mooring_internal.lock_placement(must_wait => true);
  select n.* into node
    from mooring.node n
   where n.name = forget_node.name
     for update;
  if node.id is null then
    perform mooring_internal.raise_no_such_node(forget_node.name);
  end if;
  -- an agent that registers at this moment waits for this lock, and comes back as a new node
  select h.* into beat
    from mooring.heartbeat h
   where h.node_id = node.id
     for update;
  select count(*) into owned
    from mooring.assignment a
   where a.node_id = node.id and a.ordinal is not null;
  if mooring_internal.node_is_live(beat) then
    raise exception using
      errcode = 'MR006',
      message = format('node %s is live', node.name),
      hint = case
        when owned > 0 then format(
          'Drain it: select * from mooring.drain_node(%L), or mooring drain %s --wait; '
          'then stop its agent.',
          node.name, node.name)
        else 'Stop its agent.'
      end;
  elsif owned > 0 then
    raise exception using
      errcode = 'MR006',
      message = format('node %s owns %s assignments', node.name, owned),
      hint = 'Wait until its lease and the margin are over: then they are placed elsewhere.';
  end if;
  delete from mooring.node n
   where n.id = node.id;
end;
$$;
comment on function mooring.forget_node(text) is
  'Deletes a node that is not live and owns nothing, and its heartbeat with it.';
