create or replace view mooring.unplaced as
  select a.id as assignment_id,
      a.deployment_id,
      d.package_name,
      a.waiting_since,
      coalesce(
        k.reason,
        nullif(w.reason, soon.reason),
        case
          when a.last_node_id is not null then (
            select format(
                'all nodes were away; '
                'until %s is back it waits for setting.return_wait (%s) from the first that came',
                string_agg(n.name, ', ' order by n.name),
                s.return_wait)
              from mooring.node n
             cross join mooring.setting s
             where n.id = any ((select mooring_internal.awaited_nodes())::int[])
             group by s.return_wait)
        end,
        soon.reason) as reason,
      d.name,
      a.ordinal,
      r.last_error
    from mooring.assignment a
   cross join (values ('it is placed by the next round')) soon (reason)
    left join mooring.deployment d on d.id = a.deployment_id
    left join mooring_internal.pending_reasons() w on w.signature = a.signature
    left join mooring_internal.waiting_for_namesakes() k on k.deployment_id = a.deployment_id
    left join mooring.run r on r.assignment_id = a.id
   where a.node_id is null and a.wanted = 'run';
comment on view mooring.unplaced is 'What is pending, and why.';
comment on column mooring.unplaced.assignment_id is 'The assignment.';
comment on column mooring.unplaced.deployment_id is 'Its deployment.';
comment on column mooring.unplaced.package_name is 'npm package.';
comment on column mooring.unplaced.waiting_since is 'Pending since.';
comment on column mooring.unplaced.reason is
  'The first rule that leaves no node, with the way out.';
comment on column mooring.unplaced.name is 'Name of the deployment.';
comment on column mooring.unplaced.ordinal is 'Which replica.';
comment on column mooring.unplaced.last_error is
  'What went wrong when it last ran or was refused.';
