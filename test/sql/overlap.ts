/**
 * Start-first work on two or three hosts, step by step. The story says what each agent does, and a
 * round is a claim.
 */
import type { TransactionSql } from 'postgres'
import { age, deployment, node, report } from '../helpers/factories.js'
import type { DeploymentSpec, TestNode } from '../helpers/factories.js'
import { claim } from './story.js'

export interface Copy {
  id: string
  ordinal: number
  handover: string | null
  node: string | null
  epoch: string
  wanted: 'run' | 'stop'
  stop_reason: string | null
  run_state: string | null
}

export const instances = async (sql: TransactionSql): Promise<Copy[]> =>
  await sql<Copy[]>`
    select p.assignment_id as id, p.ordinal, p.handover, p.node, p.epoch, p.wanted, p.stop_reason,
           p.run_state
      from mooring.placement p
     order by p.assignment_id`

/** [node, handover, wanted] of each row, in order of id. */
export const shape = async (sql: TransactionSql) =>
  (await instances(sql)).map((row) => [row.node, row.handover, row.wanted])

export const START_FIRST: DeploymentSpec = { on_lost: 'keep', handover: 'start-first' }

export interface Fleet {
  hosts: Record<string, TestNode>
  id: string
}

/**
 * One start-first deployment that runs on host-a; then host-b comes, and host-c where it is asked
 * for. Successors are believed at once.
 */
export async function fleet(
  sql: TransactionSql,
  spec: DeploymentSpec = {},
  others = ['host-b'],
): Promise<Fleet> {
  await sql`update mooring.setting set handover_settle = '0'`
  const hosts: Record<string, TestNode> = { 'host-a': await node(sql, { name: 'host-a' }) }
  const id = await deployment(sql, { ...START_FIRST, ...spec })
  await claim(sql)
  for (const row of await instances(sql))
    await report(sql, hosts['host-a']!, row, 'running', { pid: 1 })
  for (const name of others) hosts[name] = await node(sql, { name })
  return { hosts, id }
}

/** The agent of its node says so of a row. */
export async function says(
  sql: TransactionSql,
  { hosts }: Fleet,
  id: string,
  state: string,
  fields: Parameters<typeof report>[4] = {},
) {
  const row = (await instances(sql)).find((copy) => copy.id === id)!
  return await report(sql, hosts[row.node!]!, row, state, fields)
}

/** Its lease and the margin are over, and the round that takes what it owns has run. */
export async function dies(sql: TransactionSql, name: string): Promise<void> {
  await age(sql, name, '61 seconds ago')
  await sql`select from mooring.reap()`
}

/** The fleet, drained so far that a successor has been ordered on host-b. */
export async function arriving(
  sql: TransactionSql,
  spec: DeploymentSpec = {},
  others?: string[],
): Promise<Fleet & { old: string; successor: string }> {
  const made = await fleet(sql, spec, others)
  await sql`select from mooring.drain_node('host-a')`
  await claim(sql)
  const rows = await instances(sql)
  return {
    ...made,
    old: rows.find((row) => row.handover === null)!.id,
    successor: rows.find((row) => row.handover === 'arriving')!.id,
  }
}
