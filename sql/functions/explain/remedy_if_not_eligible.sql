-- The way out for one node. It is apart from the reason, because reasons that are counted over many
-- nodes have to be equal.
create or replace function mooring_internal.remedy_if_not_eligible(
  predicates record,
  node mooring.node,
  beat mooring.heartbeat,
  spec mooring.deployment,
  disk_free_min_pct float8
) returns text
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
as $$
begin
  return case
    when not predicates.pin_ok then format(
      '%s; change pinned_node to have it here', spec.pinned_node)
    when not predicates.selector_ok then format(
      '%s; label it with upsert_node(%L, labels => %L), or change the selector',
      mooring_internal.missing_labels(node.labels, spec.selector),
      node.name,
      mooring_internal.missing_labels(node.labels, spec.selector))
    when not predicates.driver_ok then case
      when spec.command is not null and not node.drivers @> '{exec}'
        then 'start its agent with --allow-exec'
      when not node.drivers @> '{exec}' and mooring_internal.code_variables(spec.env) <> '{}'
        then format(
          'its env sets %s, which decides what code runs: '
          'take that out, or start its agent with --allow-exec',
          array_to_string(mooring_internal.code_variables(spec.env), ', '))
      else 'start an agent there that has the driver npm'
    end
    when not predicates.trust_ok then format(
      '%s@%s, it trusts %s; start its agent with a wider --trust',
      spec.package_name, spec.package_version, coalesce(node.trusts, 'nothing'))
    when not predicates.urls_ok then format(
      '%s; give them with upsert_node(%L, ...)',
      concat_ws(
        ' and ',
        case when node.agent_base_url is null then 'agent_base_url' end,
        case when node.gateway_base_url is null then 'gateway_base_url' end),
      node.name)
    when not predicates.live then format(
      '%s; start its agent',
      case
        when beat.beat_at is null then 'it never registered'
        when beat.session is null then 'its agent has left'
        else format(
          'no beat for %s',
          mooring_internal.format_duration(clock_timestamp() - beat.beat_at))
      end)
    when not predicates.enabled then format('set_node_enabled(%L, true)', node.name)
    when not predicates.not_draining then case
      when node.draining_since is not null then format('undrain_node(%L)', node.name)
      when mooring_internal.node_is_held(node.held_until)
        then format('it is held until its agent starts again: hold_node(%L, ''0'')', node.name)
      else 'start it again'
    end
    when not predicates.has_room then format(
      '%s; raise it with upsert_node(%L, max_assignments => %s)',
      node.max_assignments, node.name, node.max_assignments + 1)
    when not predicates.disk_ok then format(
      '%s %%, and %s %% are needed; free some, or lower setting.disk_free_min_pct',
      round(beat.disk_free_pct::numeric, 1), disk_free_min_pct)
  end;
end;
$$;
comment on function mooring_internal.remedy_if_not_eligible(
  record, mooring.node, mooring.heartbeat, mooring.deployment, float8) is
  'What makes a row of eligibility() eligible: the way out of the first predicate that fails. '
  'null when it is eligible.';
