-- The node for each of some assignments under a policy of kind affinity, in queue order: each
-- assignment gets the cheapest node that has room left when its turn comes.
-- The first assignment that finds no room ends the result, because none after it finds room.
-- README.md explains the algorithm. Reads the given assignments, locks nothing.
create or replace function mooring_internal.choose_by_affinity(
  nodes mooring.node_state[],
  eligible int[],
  policy text,
  assignments bigint[]
) returns int[]
  language plpgsql stable
  set search_path = pg_catalog, mooring, pg_temp
  -- planned with the real lengths of the arrays, see with_load()
  set plan_cache_mode = force_custom_plan
  set jit = off
as $$
declare
  no_limit constant int := 2147483647;
  cost_function text;
  fit mooring.node_state[] := array(
    select s
      from unnest(nodes) s
     where s.id = any (eligible) and coalesce(s.max_assignments > s.assigned, true)
     order by s.id);
  last_id int := (select max(s.id) from unnest(fit) s);
  -- by node id: its room, and the number in the queue from which on it rejects every assignment
  room int[] := array(
    select coalesce(s.max_assignments - s.assigned, no_limit)
      from generate_series(1, last_id) g (id)
      left join unnest(fit) s on s.id = g.id
     order by g.id);
  closed_from int[] := array_fill(no_limit, array[coalesce(last_id, 0)]);
  -- numbers in the queue: without a node yet; the nodes they ask now; accepted, and by which node
  asking int[] := array(select generate_series(1, cardinality(assignments)));
  asked int[];
  offered int[];
  accepted int[] := '{}';
  accepted_on int[] := '{}';
begin
  select p.cost_function into strict cost_function
    from mooring.policy p
   where p.name = choose_by_affinity.policy;
  while asking <> '{}' and fit <> '{}' loop
    execute format($query$
      select array_agg(r.nr), array_agg(b.id)
        from unnest($1, $2) r (nr, id)
        join mooring.assignment a on a.id = r.id
       cross join lateral (
         select s.id
           from unnest($3) s
          where r.nr < $4[s.id]
          order by %s(s, a) * 100 / s.weight nulls last, s.id
          limit 1) b
      $query$, cost_function)
      into asked, offered
      using asking,
        array(
          select assignments[u.nr]
            from unnest(asking) with ordinality u (nr, o)
           order by u.o),
        fit,
        closed_from;
    exit when asked is null;
    select
        coalesce(array_agg(w.nr order by w.nr) filter (where w.place <= room[w.node_id]), '{}'),
        coalesce(
          array_agg(w.node_id order by w.nr) filter (where w.place <= room[w.node_id]), '{}'),
        coalesce(array_agg(w.nr order by w.nr) filter (where w.place > room[w.node_id]), '{}')
      into accepted, accepted_on, asking
      from (select u.nr, u.node_id,
                row_number() over (partition by u.node_id order by u.nr) as place
              from (select t.nr, t.node_id
                      from unnest(accepted, accepted_on) t (nr, node_id)
                    union all
                    select o.nr, o.node_id
                      from unnest(asked, offered) o (nr, node_id)) u) w;
    if asking <> '{}' then
      closed_from := array(
        select coalesce(f.nr, no_limit)
          from generate_series(1, last_id) g (id)
          left join (
                 select t.node_id, max(t.nr) as nr
                   from unnest(accepted, accepted_on) t (nr, node_id)
                  group by t.node_id
                 having count(*) >= room[t.node_id]) f on f.node_id = g.id
         order by g.id);
    end if;
  end loop;
  return accepted_on;
end;
$$;
comment on function
  mooring_internal.choose_by_affinity(mooring.node_state[], int[], text, bigint[]) is
  'The node for each of the given assignments under a policy of kind affinity, in queue order; '
  'fewer where room runs out.';
