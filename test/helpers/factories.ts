import { randomUUID } from 'node:crypto'
import type { ISql } from 'postgres'

/** A connection or a transaction. */
export type Db = ISql

export interface NodeSpec {
  name?: string
  /**
   * Age of its last beat, '61 seconds ago'. Left out: just now.
   * 'never': the row exists and no agent has registered.
   */
  seen?: string
  /** How long ago its agent came. Left out: long ago. */
  came?: string
  session?: string
  /** null trusts nothing. Left out: everything. */
  trusts?: string | null
  /** Left out: npm and exec. */
  drivers?: string[]
  labels?: Record<string, unknown>
  max_assignments?: number | null
  agent_base_url?: string
  gateway_base_url?: string
  weight?: number
  enabled?: boolean
  draining?: boolean
  /** What its last beat said of it. */
  sample?: Sample
}

export interface Sample {
  cpu_pct?: number
  memory_mb?: number
  disk_free_pct?: number
  disk_free_bytes?: number
  running?: number
}

export interface TestNode {
  id: number
  name: string
  session: string
}

let nodes = 0

/** Registers a node through the verb, then gives it the age and the figures that are asked for. */
export async function node(sql: Db, spec: NodeSpec = {}): Promise<TestNode> {
  const name = spec.name ?? `host-${++nodes}`
  const session = spec.session ?? randomUUID()
  const {
    trusts = '.',
    drivers = ['npm', 'exec'],
    labels = {},
    max_assignments = null,
    agent_base_url = null,
    gateway_base_url = null,
  } = spec
  if (spec.seen === 'never') {
    await sql`
      insert into mooring.node
        (name, trusts, drivers, labels, max_assignments, agent_base_url, gateway_base_url)
      values
        (${name}, ${trusts}, ${drivers}, ${sql.json(labels as never)}, ${max_assignments},
         ${agent_base_url}, ${gateway_base_url})
    `
  } else {
    await sql`
      select from mooring.register_node(
        ${name}, ${session}, ${trusts}, ${drivers}, ${sql.json(labels as never)},
        ${max_assignments}, ${agent_base_url}, ${gateway_base_url})
    `
    await sql`
      update mooring.heartbeat
      set session_at = clock_timestamp() - ${spec.came ?? '1 day'}::interval
      where node = ${name}
    `
  }
  const { weight = null, enabled = null, draining = false } = spec
  if (weight !== null || enabled !== null || draining) {
    await sql`
      update mooring.node
      set weight = coalesce(${weight}, weight),
        enabled = coalesce(${enabled}, enabled),
        draining_since = case when ${draining} then now() end
      where name = ${name}
    `
  }
  if (spec.sample) await beat(sql, { name, session }, spec.sample)
  if (spec.seen !== undefined && spec.seen !== 'never') await age(sql, name, spec.seen)
  const [row] = await sql<{ id: number }[]>`select id from mooring.node where name = ${name}`
  return { id: row!.id, name, session }
}

/** A heartbeat, as the node's agent sends it. */
export async function beat(
  sql: Db,
  { name, session }: Pick<TestNode, 'name' | 'session'>,
  sample: Sample = {},
) {
  const {
    cpu_pct = null,
    memory_mb = null,
    disk_free_pct = null,
    disk_free_bytes = null,
    running = null,
  } = sample
  const [answer] = await sql<
    {
      digest: string
      owned: number
      lease_ttl_ms: number
      next_beat_ms: number
      hold: boolean
      round_overdue: boolean
    }[]
  >`
    select * from mooring.heartbeat(
      ${name}, ${session}, ${cpu_pct}, ${memory_mb}, ${disk_free_pct}, ${disk_free_bytes},
      ${running})`
  return answer!
}

/** Makes a node's last beat older: age(sql, 'host-a', '61 seconds ago'). */
export async function age(sql: Db, name: string, ago: string): Promise<void> {
  await sql`
    update mooring.heartbeat
    set beat_at = clock_timestamp() + ${ago}::interval
    where node_id = (select id from mooring.node where name = ${name})
  `
}

export interface DeploymentSpec {
  id?: number | string
  name?: string
  labels?: Record<string, unknown>
  type?: string
  /** Left out: http-server@14.1.1, unless there is a command. */
  package_name?: string | null
  package_version?: string
  command?: string | null
  args?: unknown
  env?: unknown
  enabled?: boolean
  replicas?: number
  policy?: string
  selector?: Record<string, unknown>
  pinned_node?: string
  needs_urls?: boolean
  on_lost?: string
  handover?: string
  lease_ttl?: string
  stop_grace?: string
  created_at?: string
  updated_at?: string
}

/** Inserts a deployment and returns its id. */
export async function deployment(sql: Db, spec: DeploymentSpec = {}): Promise<string> {
  const row: Record<string, unknown> =
    spec.package_name === undefined && !spec.command
      ? { package_name: 'http-server', package_version: '14.1.1', ...spec }
      : { ...spec }
  for (const column of ['labels', 'args', 'env', 'selector'])
    if (column in row) row[column] = sql.json(row[column] as never)
  const [made] = await sql<
    { id: string }[]
  >`insert into mooring.deployment ${sql(row as never)} returning id`
  return made!.id
}

/**
 * n deployments of one package in one statement, as a user writes it in psql.
 * Resolves with their ids, in order.
 */
export async function deployments(sql: Db, n: number): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    insert into mooring.deployment (package_name, package_version, enabled)
    select 'http-server', '14.1.1', true
    from generate_series(1, ${n}::int)
    returning id`
  return rows.map(({ id }) => id)
}

export interface AssignmentRow {
  id: string
  deployment_id: string
  ordinal: number | null
  node: string | null
  epoch: string
  wanted: 'run' | 'stop'
  stop_reason: string | null
  generation: string | null
}

/** The assignments of a deployment, or all of them, with their owners' names, in order of id. */
export async function assignments(sql: Db, deployment?: string): Promise<AssignmentRow[]> {
  return await sql<AssignmentRow[]>`
    select a.id, a.deployment_id, a.ordinal, n.name as node, a.epoch, a.wanted, a.stop_reason,
           d.generation
      from mooring.assignment a
      left join mooring.node n on n.id = a.node_id
      left join mooring.deployment d on d.id = a.deployment_id
     where ${deployment ?? null}::bigint is null or a.deployment_id = ${deployment ?? null}
     order by a.id`
}

export interface ReportFields {
  pid?: number
  restarts?: number
  exit_code?: number
  exit_signal?: string
  error?: string
  next_start_in_ms?: number
}

/** A report of one assignment by a node's agent; answers what became of it. */
export async function report(
  sql: Db,
  { name, session }: Pick<TestNode, 'name' | 'session'>,
  of: Pick<AssignmentRow, 'id' | 'epoch'> & { generation?: string | null },
  state: string,
  fields: ReportFields = {},
) {
  const row = {
    assignment_id: of.id,
    epoch: of.epoch,
    generation: of.generation ?? '0',
    state,
    pid: null,
    restarts: 0,
    exit_code: null,
    exit_signal: null,
    error: null,
    next_start_in_ms: null,
    ...fields,
  }
  const [answer] = await sql<{ assignment_id: string; epoch: string; accepted: boolean | null }[]>`
    select * from mooring.report(${name}, ${session}, ${sql.json([row])})`
  return answer!.accepted
}
