/**
 * Fleets that exist as rows only: what the SQL costs is measured without a process for each of a
 * thousand nodes.
 */
import type { Sql } from 'postgres'

/**
 * Live for the whole benchmark: the lease is an hour long. Every node trusts every package whose
 * name starts with pkg.
 */
export async function addNodes(sql: Sql, count: number): Promise<void> {
  await sql`
    insert into mooring.node (name, trusts)
    select 'node-' || g, '^pkg'
      from generate_series(1, ${count}::int) g`
  await keepAlive(sql)
}

export async function keepAlive(sql: Sql): Promise<void> {
  await sql`update mooring.setting set lease_ttl = '1 hour'`
  await sql`
    update mooring.heartbeat
       set session = gen_random_uuid(),
           session_at = clock_timestamp() - interval '1 hour',
           beat_at = clock_timestamp(),
           lease_ttl = '1 hour'`
}

export async function addDeployments(sql: Sql, count: number, packageName = 'pkg'): Promise<void> {
  await sql`
    insert into mooring.deployment (package_name, package_version)
    select ${packageName}, '1.0.0'
      from generate_series(1, ${count}::int)`
}

/** What the agents of a fleet that has been running for a while have reported. */
export async function observeAll(sql: Sql): Promise<void> {
  await sql`
    insert into mooring.run (
      assignment_id, deployment_id, node_id, epoch, generation, state, pid, last_deployed_at
    )
    select a.id, a.deployment_id, a.node_id, a.epoch, 1, 'running', 1000 + a.id % 30000, now()
      from mooring.assignment a
     where a.node_id is not null`
}

export interface Balance {
  nodes: number
  least: number
  most: number
  placed: number
}

export async function balance(sql: Sql): Promise<Balance> {
  const [row] = await sql<Balance[]>`
    select count(*)::int as nodes, min(c.n)::int as least, max(c.n)::int as most,
           sum(c.n)::int as placed
      from (
        select count(*) as n
          from mooring.assignment a
         where a.node_id is not null
         group by a.node_id
      ) c`
  return row!
}

export async function countEvents(sql: Sql, kind: string): Promise<number> {
  const [row] = await sql<
    { n: number }[]
  >`select count(*)::int as n from mooring.event e where e.kind = ${kind}`
  return row!.n
}

export async function claim(sql: Sql): Promise<number> {
  const [row] = await sql<{ placed: number }[]>`select count(*)::int as placed from mooring.claim()`
  return row!.placed
}

/** As the worker's place task does: a window per transaction, until one is not full. */
export async function claimInWindows(sql: Sql): Promise<number> {
  const [setting] = await sql<
    { claim_window: number }[]
  >`select s.claim_window from mooring.setting s`
  for (let placed = 0; ;) {
    const [row] = await sql<
      { placed: number }[]
    >`select count(*)::int as placed from mooring.claim(${setting!.claim_window}::int)`
    placed += row!.placed
    if (row!.placed < setting!.claim_window) return placed
  }
}
