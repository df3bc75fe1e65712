import type { Test } from 'tap'
import type { TransactionSql } from 'postgres'
import type { TestDatabase } from '../helpers/postgres.js'
import { assignments, report, type Db, type TestNode } from '../helpers/factories.js'

/**
 * The server ends a session that is idle in a transaction with a verb in it, and one that waits for
 * the placement lock. It must not do so during a test, not even on a machine that stands still.
 */
export const patient = (sql: Db) => sql`update mooring.setting set placement_lock_timeout = '1 min'`

const undo = new Error('rolled back, as every story is')

/**
 * Stories that share one database and never meet: each runs in a transaction that is rolled back.
 * What needs real commits (notifications, two sessions) takes a database of its own instead.
 */
export function storiesIn(pg: TestDatabase, t: Test) {
  const ready = patient(pg.sql).execute()
  return (name: string, tell: (t: Test, sql: TransactionSql) => Promise<void>): void => {
    void t.test(name, async (t) => {
      await ready
      await pg.sql
        .begin(async (sql) => {
          await tell(t, sql)
          throw undo
        })
        .catch((error: unknown) => {
          if (error !== undo) throw error
        })
    })
  }
}

export interface Refusal {
  /** SQLSTATE */
  code: string
  constraint_name?: string
  detail?: RegExp | string
  hint?: RegExp
  message?: RegExp
}

/** The statement fails as expected, and the story goes on behind a savepoint. */
export async function refused(
  t: Test,
  sql: TransactionSql,
  statement: (sql: TransactionSql) => Promise<unknown>,
  expected: Refusal,
  name = 'refused',
): Promise<void> {
  await t.rejects(
    sql.savepoint(async (sql) => {
      await statement(sql)
    }),
    expected,
    name,
  )
}

/** Places what can be placed; the ids of what was. */
export async function claim(sql: Db, maxRows: number | null = null): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`select id from mooring.claim(${maxRows})`
  return rows.map(({ id }) => id)
}

/** How many assignments each node owns, daemons not counted: { 'host-a': 11, 'host-b': 10 }. */
export async function loads(sql: Db): Promise<Record<string, number>> {
  const rows = await sql<{ name: string; n: number }[]>`
    select n.name, count(a.id)::int as n
      from mooring.node n
      left join mooring.assignment a on a.node_id = n.id and a.ordinal is not null
     group by n.name
     order by n.name`
  return Object.fromEntries(rows.map(({ name, n }) => [name, n]))
}

/** Events of a kind, oldest first. */
export async function events(sql: Db, kind: string) {
  return await sql<
    {
      assignment_id: string | null
      deployment_id: string | null
      node: string | null
      epoch: string | null
      reason: string | null
      detail: Record<string, unknown> | null
    }[]
  >`
    select assignment_id, deployment_id, node, epoch, reason, detail
      from mooring.event
     where kind = ${kind}
     order by id`
}

/** One regular expression out of parts that each fit on a line. */
export const pattern = (...parts: RegExp[]) =>
  new RegExp(parts.map(({ source }) => source).join(''))

/** The agents of these hosts obey: what is to stop has stopped, what shall run runs. */
export async function obeyOrders(
  sql: Db,
  hosts: readonly Pick<TestNode, 'name' | 'session'>[],
  only?: 'stop' | 'run',
): Promise<void> {
  for (const row of await assignments(sql)) {
    const host = hosts.find(({ name }) => name === row.node)
    if (!host) continue
    if (row.wanted === 'stop' && only !== 'run') await report(sql, host, row, 'stopped')
    if (row.wanted === 'run' && only !== 'stop') await report(sql, host, row, 'running', { pid: 1 })
  }
}
