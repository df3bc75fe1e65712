-- The command that starts a node's agent as it was started last: what it said of itself then.
create or replace function mooring_internal.agent_command(node text) returns text
  language sql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
begin atomic
  select concat_ws(
      ' ',
      'mooring agent --name ' || agent_command.node,
      (
        select '--trust ' || chr(39) || replace(n.trusts, chr(39), '''\''''') || chr(39)
          from mooring.node n
         where n.name = agent_command.node),
      (
        select '--allow-exec'
          from mooring.node n
         where n.name = agent_command.node and n.drivers @> '{exec}'));
end;
comment on function mooring_internal.agent_command(text) is
  'The command that starts an agent with the options that this node had last.';
