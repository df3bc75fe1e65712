-- The circuit breaker of reap(). It pauses reaping when more than setting.reap_pause_share of the
-- nodes are silent. The cause is then more often a network, a firewall or a wrong address than so
-- many dead hosts. Moving everything to the few nodes that are left would make it worse.
-- One event and fleet.reap_paused say so, until the nodes return or an operator calls
-- resume_reaping().
-- Counted are nodes that hold a session. The silence of a node counts only where it cost work: the
-- node still owns what reap() would free, or reap() freed its work lately. README.md tells why.
-- With nothing to reap nothing is paused. A pause, and what was resumed, ends when the share has
-- fallen. After setting.reap_pause_timeout nothing more can be learned, and reaping goes on.
-- locks: reap_pause (skip locked: the transaction that holds it decides the same)
create or replace function mooring_internal.update_reap_pause(
  at timestamptz,
  overdue int[]
) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, mooring, pg_temp
as $$
declare
  setting mooring.setting;
  pause mooring_internal.reap_pause;
  -- Three variables, not one record: while the share is off nothing is counted, and reading a field
  -- of an unassigned record fails, even in a branch that is not executed.
  nodes bigint;
  silent bigint;
  owing bigint;
  too_many boolean := false;
begin
  select s.* into setting from mooring.setting s;
  select p.* into pause from mooring_internal.reap_pause p;
  if setting.reap_pause_share is not null then
    select count(*),
        count(*) filter (where n.owes or n.silent),
        count(*) filter (where n.owes)
      into nodes, silent, owing
      from (
        select h.beat_at + h.lease_ttl + setting.reap_margin < at as silent,
            h.reaped_at > h.beat_at
              and h.beat_at + 5 * h.lease_ttl + setting.reap_margin >= at as reaped_lately,
            h.node_id = any (overdue) as owes
          from mooring.heartbeat h
         where h.session is not null) n
     where not n.silent or n.owes or n.reaped_lately;
    too_many := nodes >= setting.reap_pause_min_nodes
      and silent > setting.reap_pause_share * nodes
      and (owing > 0 or pause.resumed_at is not null);
  end if;
  if too_many and pause.paused_at is null then
    update mooring_internal.reap_pause p
       set paused_at = at, reason = format('%s of %s nodes are silent', silent, nodes)
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at is null
          for update skip locked);
    if found then
      perform mooring_internal.add_event(
        'reaping_paused',
        format(
          '%s of %s nodes are silent, more than %s %%: their work is not reaped until they '
          'return%s, or an operator calls mooring.resume_reaping()',
          silent,
          nodes,
          round((100 * setting.reap_pause_share)::numeric, 1),
          ', ' || mooring_internal.format_duration(setting.reap_pause_timeout) || ' pass'),
        detail => jsonb_build_object(
          'silent', silent,
          'nodes', nodes,
          'owning', owing,
          'share', setting.reap_pause_share));
    end if;
  elsif too_many
    and pause.resumed_at is null
    and pause.paused_at + setting.reap_pause_timeout <= at
  then
    update mooring_internal.reap_pause p
       set resumed_at = at
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at = pause.paused_at and l.resumed_at is null
          for update skip locked);
    if found then
      pause.resumed_at := at;
      perform mooring_internal.add_event(
        'reaping_resumed',
        format(
          'it was paused for %s (setting.reap_pause_timeout): %s of %s nodes are silent',
          mooring_internal.format_duration(setting.reap_pause_timeout), silent, nodes),
        detail => jsonb_build_object('silent', silent, 'nodes', nodes, 'owning', owing));
    end if;
  elsif not too_many and pause.paused_at is not null then
    update mooring_internal.reap_pause p
       set paused_at = null, reason = null, resumed_at = null, resumed_by = null
     where p.only_row = (
       select l.only_row
         from mooring_internal.reap_pause l
        where l.paused_at = pause.paused_at
          for update skip locked);
    if found and pause.resumed_at is null then
      perform mooring_internal.add_event(
        'reaping_resumed',
        case
          when setting.reap_pause_share is null then 'setting.reap_pause_share is off'
          else format('%s of %s nodes are silent', silent, nodes)
        end,
        detail => case
          when setting.reap_pause_share is not null
            then jsonb_build_object('silent', silent, 'nodes', nodes)
        end);
    end if;
  end if;
  return too_many and pause.resumed_at is null;
end;
$$;
comment on function mooring_internal.update_reap_pause(timestamptz, int[]) is
  'True while so many nodes are silent that reap() frees none of their work. Writes the beginning '
  'and the end of a pause as events. at: the time by which leases are judged. '
  'overdue: the nodes that own what reap() would free.';
