-- Groups deployments that every node judges alike, so that ten thousand packages that one pattern
-- trusts are one question and not ten thousand.
-- Two deployments are alike when selector, pin, driver and need for URLs are equal, and the same
-- trust patterns of the fleet match their packages.
create or replace function mooring_internal.eligibility_groups(deployments bigint[])
  returns table (deployment_id bigint, representative bigint)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- one plan for every call: planning for the very array takes twice as long as answering
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with wanted as materialized (
      select d.id, d.selector, d.pinned_node, d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}' as needs_exec,
          d.package_name || '@' || d.package_version as package
        from mooring.deployment d
       where d.id = any(eligibility_groups.deployments)
    ),
    trust as (
      select m.package, array_agg(m.pattern order by m.pattern) as patterns
        from mooring_internal.trust_matches((select array_agg(w.package) from wanted w)) m
       group by m.package
    )
    select w.id,
        min(w.id) over (
          partition by w.selector, w.pinned_node, w.needs_urls, w.needs_exec, w.package is null,
            t.patterns)
      from wanted w
      left join trust t on t.package = w.package;
end;
$$;
comment on function mooring_internal.eligibility_groups(bigint[]) is
  'Groups deployments that the present nodes judge alike; '
  'representative is the smallest id of each group.';
