-- simulate_insert: where a deployment would go if it were inserted now. It is given as an object of
-- its columns, for example {"package_name": "web", "replicas": 3}. The result has one row for each
-- replica, and for a daemon one for each node. The relation and the choice are those of claim(), on
-- the present loads. Other pending work is not counted. What the table would not take is an error,
-- the same as that of the INSERT: check_insert().
create or replace function mooring.simulate_insert(deployment jsonb)
  returns table (ordinal int, to_node text, reason text)
  language plpgsql stable security definer rows 10
  set search_path = pg_catalog, mooring, pg_temp
  set jit = off
as $$
#variable_conflict use_column
declare
  filled jsonb;
  unknown text;
  spec mooring.deployment;
  policy mooring.policy;
  eligible int[];
  chosen int[] := '{}';
  obstacle text;
begin
  if jsonb_typeof(simulate_insert.deployment) is distinct from 'object' then
    raise exception using
      errcode = 'MR007',
      message = 'a deployment is given as one object of its columns',
      hint = 'For example {"package_name": "http-server", "replicas": 3}.';
  end if;
  select string_agg(k.key, ', ' order by k.key) into unknown
    from jsonb_object_keys(simulate_insert.deployment) k (key)
   where k.key not in (
     select a.attname
       from pg_attribute a
      where a.attrelid = 'mooring.deployment'::regclass
        and a.attnum > 0
        and a.attgenerated = ''
        and not a.attisdropped);
  if unknown is not null then
    raise exception using
      errcode = 'MR007',
      message = format('a deployment has no %s', unknown),
      hint = 'See \d mooring.deployment for its columns.';
  end if;
  spec := mooring_internal.check_insert(simulate_insert.deployment);
  filled := to_jsonb(spec);
  select p.* into policy
    from mooring.policy p
   where p.name = coalesce(spec.policy, (select s.default_policy from mooring.setting s));
  if not spec.enabled then
    return query
      select g.ordinal, null::text, 'the deployment is disabled'
        from generate_series(0, spec.replicas - 1) g (ordinal);
    return;
  elsif spec.type = 'daemon' then
    return query
      select null::int, n.name, 'a daemon runs on every permitted node'
        from mooring_internal.eligibility('{}', filled) e
        join mooring.node n on n.id = e.node_id
       where e.permitted
       order by n.name;
    return;
  end if;
  eligible := array(
    select e.node_id
      from mooring_internal.eligibility('{}', filled) e
     where e.eligible
     order by e.node_id);
  if policy.kind = 'load' and eligible <> '{}' then
    chosen := mooring_internal.choose_places(
      array(select s from mooring_internal.node_states() s),
      eligible,
      policy.name,
      array_fill(null::bigint, array[spec.replicas]),
      array_fill(null::bigint, array[spec.replicas]),
      '{}',
      spec.replicas > 1);
  end if;
  obstacle := case
    when policy.kind = 'none' then
      'policy none: nothing is placed automatically; '
      'reassign() it to a node, or choose another policy'
    when policy.kind = 'affinity' and eligible <> '{}' then format(
      'policy %s decides by ids that are given at the insert: one of %s nodes',
      policy.name, cardinality(eligible))
    when eligible <> '{}' then
      'the nodes that may run it would be full: add a node or raise max_assignments'
    else coalesce(
      'no node can take it: ' || (
        select string_agg(
            format('%s (%s)', w.reason, w.nodes), ', ' order by w.nodes desc, w.reason)
          from (
            select mooring_internal.reason_not_eligible(e) as reason, count(*) as nodes
              from mooring_internal.eligibility('{}', filled) e
             group by 1) w),
      'there is no node: start an agent') end;
  return query
    select g.ordinal, n.name,
        case when n.id is null then obstacle else 'cheapest by ' || policy.name end
      from generate_series(0, spec.replicas - 1) g (ordinal)
      left join mooring.node n on n.id = chosen[g.ordinal + 1]
     order by g.ordinal;
end;
$$;
comment on function mooring.simulate_insert(jsonb) is
  'Where a deployment would run if it were inserted now, given as an object of its columns. '
  'to_node is null where it would run nowhere, and reason says why. Locks and writes nothing.';
