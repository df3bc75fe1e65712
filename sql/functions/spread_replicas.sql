-- Which of the chosen places each row takes, so that replicas of one deployment are kept apart. Rows come in queue order with their deployments.
-- All first replicas take places, then all second ones, over places sorted by node, so that two replicas of one deployment land far
-- apart; what still meets its twin (or one placed before) goes to the cheapest other node with room, where there is one.
-- Reads where the deployments run already, locks nothing.
create or replace function mooring.spread_replicas(deployments bigint[], places int[], nodes mooring.node_state[], eligible int[]) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
as $$
declare
  placed int[];
  load jsonb;
  twin record;
  better int;
begin
  select array_agg(p.node_id order by r.nr) into placed
    from (select u.nr, row_number() over (order by u.replica, u.nr) as turn
            from (select d.nr, row_number() over (partition by d.deployment_id order by d.nr) as replica from unnest(deployments) with ordinality d (deployment_id, nr)) u) r
    join (select u.node_id, row_number() over (order by u.node_id, u.nr) as turn from unnest(places) with ordinality u (node_id, nr)) p using (turn);
  select jsonb_object_agg(c.node_id, c.n) into load from (select u.node_id, count(*) as n from unnest(placed) u (node_id) group by 1) c;
  for twin in
    select m.nr, m.deployment_id, m.node_id
      from (select d.nr, d.deployment_id, p.node_id, row_number() over (partition by d.deployment_id, p.node_id order by d.nr) as copy
              from unnest(deployments) with ordinality d (deployment_id, nr) join unnest(placed) with ordinality p (node_id, nr) using (nr)) m
     where m.copy > 1
        or exists (select from mooring.assignment a where a.deployment_id = m.deployment_id and a.node_id = m.node_id)
  loop
    select s.id into better
      from unnest(nodes) s
     where s.id = any (eligible)
       and s.assigned + coalesce((load ->> s.id::text)::int, 0) < coalesce(s.max_assignments, 2147483647)
       and s.id not in (select p.node_id from unnest(deployments) with ordinality d (deployment_id, nr) join unnest(placed) with ordinality p (node_id, nr) using (nr) where d.deployment_id = twin.deployment_id)
       and not exists (select from mooring.assignment a where a.deployment_id = twin.deployment_id and a.node_id = s.id)
     order by (s.assigned + coalesce((load ->> s.id::text)::int, 0) + 1) * 100 / s.weight, s.id
     limit 1;
    if better is not null then
      placed[twin.nr] := better;
      load := load || jsonb_build_object(twin.node_id, (load ->> twin.node_id::text)::int - 1, better, coalesce((load ->> better::text)::int, 0) + 1);
    end if;
  end loop;
  return placed;
end;
$$;
comment on function mooring.spread_replicas(bigint[], int[], mooring.node_state[], int[]) is 'Pairs rows with chosen places so that replicas of one deployment run on different nodes where there is room.';
