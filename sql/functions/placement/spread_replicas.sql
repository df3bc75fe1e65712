-- Which of the chosen places each row gets, so that replicas of one deployment are kept apart.
-- Rows come in queue order with their deployments. README.md explains the algorithm.
--   fixed_*           replicas that already got their node and are not written yet
--   shuffle => false  places belong to their rows; only a row that meets another replica moves
-- It looks at a deployment as often as it has eligible nodes, however many replicas there are: ten
-- thousand replicas on three nodes are no work.
-- Reads where the deployments run and where they are promised to, locks nothing.
create or replace function mooring_internal.spread_replicas(
  deployments bigint[],
  places int[],
  nodes mooring.node_state[],
  eligible int[],
  fixed_deployments bigint[] default '{}',
  fixed_nodes int[] default '{}',
  shuffle boolean default true
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
as $$
declare
  placed int[];
  load jsonb;
  deployment record;
  used_nodes int[];
  nr int;
  better int;
begin
  placed := places;
  if shuffle then
    select array_agg(p.node_id order by r.nr) into placed
      from (select u.nr, row_number() over (order by u.replica, u.nr) as turn
              from (select d.nr,
                        row_number() over (partition by d.deployment_id order by d.nr) as replica
                      from unnest(deployments) with ordinality d (deployment_id, nr)) u) r
      join (select u.node_id, row_number() over (order by u.node_id, u.nr) as turn
              from unnest(places) with ordinality u (node_id, nr)) p using (turn);
  end if;
  select jsonb_object_agg(c.node_id, c.n) into load
    from (select u.node_id, count(*) as n from unnest(placed) u (node_id) group by 1) c;
  for deployment in
    select m.deployment_id,
        array_agg(m.nr order by m.nr) filter (where m.nr is not null and m.nth > 1) as twins,
        array_agg(distinct m.node_id) as nodes
      from (select u.nr, u.deployment_id, u.node_id,
                row_number() over (
                  partition by u.deployment_id, u.node_id
                  order by u.nr nulls first) as nth
              from (select d.deployment_id, d.node_id, d.nr
                      from unnest(deployments, placed)
                        with ordinality d (deployment_id, node_id, nr)
                    union all
                    select f.deployment_id, f.node_id, null::bigint
                      from unnest(fixed_deployments, fixed_nodes) f (deployment_id, node_id)
                     where f.deployment_id = any (deployments)
                    union all
                    select distinct a.deployment_id, p.node_id, null::bigint
                      from mooring.assignment a
                     cross join lateral (values (a.node_id), (a.move_to)) p (node_id)
                     where a.deployment_id = any (deployments)
                       and p.node_id is not null
                       and a.handover is distinct from 'leaving') u) m
     group by m.deployment_id
    having count(*) filter (where m.nr is not null and m.nth > 1) > 0
     order by min(m.nr)
  loop
    used_nodes := deployment.nodes;
    foreach nr in array deployment.twins loop
      select s.id into better
        from unnest(nodes) s
       where s.id = any (eligible)
         and s.id <> all (used_nodes)
         and s.assigned + coalesce((load ->> s.id::text)::int, 0)
           < coalesce(s.max_assignments, 2147483647)
       order by (s.assigned + coalesce((load ->> s.id::text)::int, 0) + 1) * 100 / s.weight, s.id
       limit 1;
      exit when better is null;
      load := load || jsonb_build_object(
        placed[nr],
        (load ->> placed[nr]::text)::int - 1,
        better,
        coalesce((load ->> better::text)::int, 0) + 1);
      placed[nr] := better;
      used_nodes := used_nodes || better;
    end loop;
  end loop;
  return placed;
end;
$$;
comment on function mooring_internal.spread_replicas(
  bigint[], int[], mooring.node_state[], int[], bigint[], int[], boolean) is
  'Pairs rows with chosen places so that replicas of one deployment run on different nodes '
  'where there is room.';
