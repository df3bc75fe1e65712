-- Each distinct trust pattern of the fleet against each package. The pattern is the outer side,
-- because a backend caches only 32 compiled expressions.
create or replace function mooring_internal.trust_matches(packages text[])
  returns table (pattern text, package text)
  language plpgsql stable security definer rows 100
  set search_path = pg_catalog, mooring, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with pattern as materialized (
      select distinct n.trusts as pattern
        from mooring.node n
       where n.trusts is not null
    )
    select p.pattern, r.package
      from pattern p
     cross join (
       select distinct u.package
         from unnest(trust_matches.packages) u (package)
        where u.package is not null) r
     where r.package ~ p.pattern
     order by p.pattern;
end;
$$;
comment on function mooring_internal.trust_matches(text[]) is
  'The trust patterns of the nodes, and which of these packages each of them matches.';
