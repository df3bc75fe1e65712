import type { ISql } from 'postgres'

export interface Seen {
  id: string
  node_id: number | null
  epoch: string
  wanted: string
}
export type Snapshot = Map<string, Seen>

export const snapshot = async (sql: ISql): Promise<Snapshot> =>
  new Map(
    (await sql<Seen[]>`select id, node_id, epoch, wanted from mooring.assignment`).map((row) => [
      row.id,
      row,
    ]),
  )

/** What must hold at every moment, each as a query that finds the offenders. */
const laws: [law: string, offenders: (sql: ISql) => Promise<readonly unknown[]>][] = [
  [
    'loads are the real counts',
    (sql) => sql`
      select coalesce(l.node_id, c.node_id) as node_id, l.assigned, c.n
        from (
          select node_id, assigned from mooring_internal.assigned_per_node() where assigned <> 0
        ) l
        full join (
          select node_id, count(*) as n
            from mooring.assignment
           where node_id is not null and ordinal is not null
           group by node_id
        ) c
          on c.node_id = l.node_id
       where l.assigned is distinct from c.n`,
  ],
  [
    'a deployment has as many replicas as it wants',
    (sql) => sql`
      select d.id, d.replicas, count(a.id)
        from mooring.deployment d
        left join mooring.assignment a
          on a.deployment_id = d.id and a.handover is null and not a.surplus
       where d.type = 'deployment'
       group by d.id
      having count(a.id) <> d.replicas`,
  ],
  [
    'a successor has its replica with an owner elsewhere; a leaving row is ordered to stop',
    (sql) => sql`
      select c.*, k.replica
        from mooring.assignment c
        join mooring_internal.handover_rows() k on k.id = c.id
        left join mooring.assignment a on a.id = k.replica
       where a.id is null
          or a.node_id is null
          or a.node_id = c.node_id
          or c.handover = 'leaving' and c.wanted = 'run'`,
  ],
  [
    'of a replica there are two rows at most',
    (sql) =>
      sql`
        select a.deployment_id, a.ordinal
          from mooring.assignment a
         where a.ordinal is not null
         group by 1, 2
         having count(*) > 2`,
  ],
  [
    'what no deployment wants is owned and ordered to stop',
    (sql) => sql`
      select a.*
        from mooring.assignment a
        left join mooring.deployment d on d.id = a.deployment_id
          and d.type = case when a.ordinal is null then 'daemon' else 'deployment' end
       where (d.id is null or a.surplus or not d.enabled and a.node_id is not null)
         and (a.node_id is null or a.wanted <> 'stop')`,
  ],
  [
    'what waits is wanted as its deployment says, under its signature',
    (sql) => sql`
      select a.*, d.enabled
        from mooring.assignment a
        join mooring.deployment d on d.id = a.deployment_id
       where a.node_id is null
         and (
           a.wanted <> case when d.enabled then 'run' else 'stop' end
           or a.signature <> mooring_internal.queue_signature(d.signature, a.refused_by)
         )`,
  ],
  [
    'every owner exists',
    (sql) =>
      sql`
        select a.*
          from mooring.assignment a
         where a.node_id is not null
           and not exists (select from mooring.node n where n.id = a.node_id)`,
  ],
  [
    // an edit that leaves a running replica nowhere to go does not stop it, see evict.sql
    'what is wanted to run is permitted where it is, or is trusted there and runs',
    (sql) => sql`
      select a.*, e.*
        from mooring.assignment a
        join mooring_internal.eligibility(array(select id from mooring.deployment)) e
          on e.deployment_id = a.deployment_id
          and e.node_id = a.node_id
        left join mooring.run r on r.assignment_id = a.id and r.epoch = a.epoch
       where a.wanted = 'run'
         and not e.permitted
         and (
           not (e.trust_ok and e.driver_ok)
           or a.ordinal is null
           or a.handover is not null
           or r.state is distinct from 'running'
         )`,
  ],
  [
    'every permitted node that takes new work has every enabled daemon',
    (sql) => sql`
      select e.*
        from mooring_internal.eligibility(
          array(select id from mooring.deployment where type = 'daemon' and enabled)
        ) e
       where e.permitted
         and e.enabled
         and e.not_draining
         and not exists (
           select
             from mooring.assignment a
            where a.ordinal is null and a.deployment_id = e.deployment_id and a.node_id = e.node_id
         )`,
  ],
  [
    'a moved row stops, is pending and wanted, or has arrived: it never runs on where it left',
    (sql) => sql`
      select a.*
        from mooring.assignment a
       where a.move_to is not null
         and (
           a.move_reason is null
           or a.ordinal is null
           or a.wanted = 'run' and a.node_id is not null
           or a.handover is not null and a.wanted = 'run'
         )
          or a.move_reason is not null and a.node_id is null and a.wanted = 'stop'`,
  ],
  [
    'what is moved is wanted by its deployment',
    (sql) => sql`
      select a.*
        from mooring.assignment a
        left join mooring.deployment d on d.id = a.deployment_id
       where a.move_reason is not null
         and a.wanted = 'stop'
         and (d.id is null or not d.enabled or a.surplus)`,
  ],
  [
    'no node is promised more than it may have',
    (sql) => sql`
      select n.*
        from mooring.node n
        join mooring_internal.node_states() s on s.id = n.id
       where s.assigned <> (
         select count(*)
           from mooring.assignment a
          where a.ordinal is not null and (a.node_id = n.id or a.move_to = n.id)
       )`,
  ],
  [
    // what failed too often stops first, see move_failing.sql
    'no node runs what it refused',
    (sql) => sql`
      select a.*
        from mooring.assignment a
       where a.node_id = any (a.refused_by) and a.wanted = 'run'`,
  ],
  [
    'the newest of each history is what is, and nothing that is gone has an owner in it',
    (sql) => sql`
      select a.id, a.epoch, a.node_id, o.*
        from mooring.assignment a
        full join (
          select distinct on (w.assignment_id) w.*
            from mooring.ownership w
           order by w.assignment_id, w.epoch desc
        ) o
          on o.assignment_id = a.id
       where case
         when a.id is null then o.node_id is not null
         else a.epoch > 0 and (o.epoch, o.node_id) is distinct from (a.epoch, a.node_id) end`,
  ],
  [
    'an owner has an epoch of its own',
    (sql) => sql`select a.* from mooring.assignment a where a.node_id is not null and a.epoch = 0`,
  ],
]

/**
 * Which laws are broken now, and which assignment's history did not go forward since the snapshot
 * before. Empty: all is well.
 */
export async function brokenLaws(
  sql: ISql,
  before: Snapshot,
  now: Snapshot,
  ended: Set<string>,
): Promise<string[]> {
  const broken: string[] = []
  for (const [law, offenders] of laws) {
    const found = await offenders(sql)
    if (found.length > 0) broken.push(`${law}: ${JSON.stringify(found[0])}`)
  }
  for (const [id, old] of before) {
    const row = now.get(id)
    if (!row) ended.add(id)
    else if (BigInt(row.epoch) < BigInt(old.epoch)) broken.push(`the epoch of ${id} went back`)
    else if (row.epoch === old.epoch && row.node_id !== old.node_id)
      broken.push(`${id} changed its owner within an epoch`)
    else if (
      row.epoch === old.epoch &&
      row.node_id !== null &&
      old.wanted === 'stop' &&
      row.wanted === 'run'
    )
      broken.push(`${id} went from stop to run within an epoch`)
  }
  for (const id of now.keys()) if (ended.has(id)) broken.push(`${id} came back from the dead`)
  return broken
}
