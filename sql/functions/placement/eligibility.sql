-- Which node may run which deployment, predicate by predicate: the one relation behind claim,
-- evict, unplaced, explain and the health labels.
--   permitted  holds all the time: where it no longer holds, evict() stops the work
--   eligible   permitted and fit for new work: a disabled or draining node keeps what it has
-- assumed: the columns of one more deployment that does not exist; its deployment_id is null.
create or replace function mooring_internal.eligibility(
  deployments bigint[],
  assumed jsonb default null
) returns table (
  deployment_id bigint,
  node_id int,
  pin_ok boolean,
  selector_ok boolean,
  driver_ok boolean,
  trust_ok boolean,
  urls_ok boolean,
  permitted boolean,
  live boolean,
  enabled boolean,
  not_draining boolean,
  has_room boolean,
  disk_ok boolean,
  eligible boolean
)
  language plpgsql stable security definer
  set search_path = pg_catalog, mooring, pg_temp
  -- one plan for every call: planning for the very array takes twice as long as answering
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with wanted as materialized (
      select d.id, d.pinned_node, mooring_internal.label_texts(d.selector) as selector,
          d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}' as needs_exec,
          d.package_name || '@' || d.package_version as package
        from mooring.deployment d
       where d.id = any(eligibility.deployments)
      union all
      select null, d.pinned_node, mooring_internal.label_texts(d.selector), d.needs_urls,
          d.command is not null or mooring_internal.code_variables(d.env) <> '{}',
          d.package_name || '@' || d.package_version
        from jsonb_populate_record(null::mooring.deployment, eligibility.assumed) d
       where eligibility.assumed is not null
    ),
    trust as materialized (
      select m.pattern, m.package
        from mooring_internal.trust_matches((select array_agg(w.package) from wanted w)) m
    ),
    host as materialized (
      select n.id, n.name, mooring_internal.label_texts(n.labels) as labels, n.drivers, n.trusts,
          n.agent_base_url is not null and n.gateway_base_url is not null as has_urls,
          mooring_internal.node_is_live(h) as live,
          n.enabled,
          n.draining_since is null
            and not h.leaving
            and not mooring_internal.node_is_held(n.held_until) as not_draining,
          n.max_assignments is null
            or coalesce(l.assigned_and_promised, 0) < n.max_assignments as has_room,
          h.disk_free_pct is null
            or h.disk_free_pct >= (select s.disk_free_min_pct from mooring.setting s) as disk_ok
        from mooring.node n
        join mooring.heartbeat h on h.node_id = n.id
        left join mooring_internal.assigned_and_promised_per_node() l on l.node_id = n.id
    ),
    pair as (
      select w.id as deployment_id, n.id as node_id,
          w.pinned_node is null or w.pinned_node = n.name as pin_ok,
          n.labels @> w.selector as selector_ok,
          case when w.needs_exec then n.drivers @> '{exec}' else true end
            and (w.package is null or n.drivers @> '{npm}') as driver_ok,
          w.package is null or t.pattern is not null as trust_ok,
          not w.needs_urls or n.has_urls as urls_ok,
          n.live, n.enabled, n.not_draining, n.has_room, n.disk_ok
        from wanted w
        cross join host n
        left join trust t on t.pattern = n.trusts and t.package = w.package
    )
    select p.deployment_id, p.node_id,
        p.pin_ok, p.selector_ok, p.driver_ok, p.trust_ok, p.urls_ok, j.permitted,
        p.live, p.enabled, p.not_draining, p.has_room, p.disk_ok,
        j.permitted and p.live and p.enabled and p.not_draining and p.has_room and p.disk_ok
      from pair p
      cross join lateral (
        select p.pin_ok and p.selector_ok and p.driver_ok and p.trust_ok and p.urls_ok
          as permitted) j;
end;
$$;
comment on function mooring_internal.eligibility(bigint[], jsonb) is
  'Every node against every given deployment: each predicate, permitted (all the time) and '
  'eligible (for new work).';
