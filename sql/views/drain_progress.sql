-- What is blocked comes from drain_targets(), on which the drain itself acts.
create or replace view mooring.drain_progress as
  select n.name as node,
      greatest(n.drain_total, o.owned) as total,
      o.owned as left,
      m.moving,
      coalesce(b.blocked, 0) as blocked,
      case
        when o.owned = 0 then null
        when not w.live then
          'its agent is silent: '
          'what it owns is placed elsewhere when the lease and the margin have passed'
        when w.hold is not null then 'hold after an outage: ' || w.hold
        else b.why
      end as why,
      n.draining_since as since,
      case
        when o.owned < n.drain_total and n.drained_at is null
          then (clock_timestamp() - n.draining_since) * o.owned / (n.drain_total - o.owned)
      end as eta,
      o.owned = 0 as done,
      t.name as target,
      coalesce(n.drain_max_moves, s.drain_max_moves) as max_moves,
      n.drain_deadline_at as deadline_at,
      n.drained_at
    from mooring.node n
   cross join mooring.setting s
    left join mooring.heartbeat h on h.node_id = n.id
    left join mooring.node t on t.id = n.drain_to
   cross join lateral (
     select
         coalesce(mooring_internal.node_is_live(h), false) as live,
         mooring_internal.hold_reason() as hold) w
   cross join lateral (
     select count(*)::int as owned
       from mooring.assignment a
      where a.node_id = n.id and a.ordinal is not null) o
   cross join lateral (
     select count(*)::int as moving
       from mooring_internal.moves_under_way() m
      where m.from_node = n.id) m
   cross join lateral (
     select
         sum(cardinality(k.ids))::int as blocked,
         string_agg(
           format(
             'assignment %s%s: %s',
             k.ids[1],
             case
               when cardinality(k.ids) > 1 then format(' and %s more', cardinality(k.ids) - 1)
             end,
             k.why),
           '; ' order by k.ids[1]) as why
       from mooring_internal.drain_obstacles(n.id) k
      where w.live and w.hold is null) b
   where n.draining_since is not null;
comment on view mooring.drain_progress is
  'Each draining node: what is left on it, what is being moved, what has nowhere to go and why.';
comment on column mooring.drain_progress.node is 'The node.';
comment on column mooring.drain_progress.total is
  'Assignments it owned when the drain began; daemons are not counted.';
comment on column mooring.drain_progress.left is
  'Assignments it owns now. Write it "left": it is a keyword.';
comment on column mooring.drain_progress.moving is
  'Assignments that are stopping here, pending, or not yet observed running elsewhere.';
comment on column mooring.drain_progress.blocked is
  'Of those left: running on, because no other node can take them. 0 in a hold and of a silent '
  'node, because neither is judged.';
comment on column mooring.drain_progress.why is 'What is in the way, with the way out.';
comment on column mooring.drain_progress.since is 'When the drain began.';
comment on column mooring.drain_progress.eta is 'How long the rest takes at the speed so far.';
comment on column mooring.drain_progress.done is
  'true: nothing is left; each of its processes is gone, or never existed.';
comment on column mooring.drain_progress.target is
  'The node to which everything goes; null: wherever each may run.';
comment on column mooring.drain_progress.max_moves is
  'How many assignments are moved at the same time.';
comment on column mooring.drain_progress.deadline_at is
  'When everything left is stopped at once; null: never.';
comment on column mooring.drain_progress.drained_at is
  'When a step of the drain first found nothing left.';
