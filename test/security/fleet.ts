/**
 * Two hosts with a login each, and attacks on them: what must be refused, with its code, and leave
 * no trace in the database.
 */
import { randomUUID } from 'node:crypto'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import { assignments, deployment } from '../helpers/factories.js'
import { login } from '../helpers/logins.js'
import type { Login } from '../helpers/logins.js'
import { testDatabase } from '../helpers/postgres.js'
import type { TestDatabase } from '../helpers/postgres.js'
import type { Attack } from './attacks.js'

export interface Fleet {
  pg: TestDatabase
  a: Login
  b: Login
  sessions: Record<'a' | 'b', string>
  deployment: string
  assignment: string
}

export const SECRET = 'hunter2-in-an-environment'

/** Two hosts with a role each; host-b owns a deployment whose environment holds a secret. */
export async function fleet(t: Test): Promise<Fleet> {
  const pg = await testDatabase(t)
  const [a, b] = [await login(t, pg, ['mooring_agent']), await login(t, pg, ['mooring_agent'])]
  const sessions = { a: randomUUID(), b: randomUUID() }
  await a.sql`select from mooring.register_node('host-a', ${sessions.a}, '.')`
  await b.sql`select from mooring.register_node('host-b', ${sessions.b}, '.')`
  const id = await deployment(pg.sql, {
    name: 'web',
    env: { TOKEN: SECRET },
    pinned_node: 'host-b',
  })
  await pg.sql`select from mooring.claim()`
  const [owned] = await assignments(pg.sql, id)
  t.equal(owned?.node, 'host-b')
  return { pg, a, b, sessions, deployment: id, assignment: owned!.id }
}

/** Everything that is stored, as one text, but the clocks that run by themselves. */
async function everything(sql: Sql): Promise<string> {
  const tables = await sql<{ name: string }[]>`
    select c.oid::regclass::text as name
      from pg_class c
     where c.relnamespace in ('mooring'::regnamespace, 'mooring_internal'::regnamespace)
       and c.relkind = 'r'
       and c.relname not in ('pulse', 'round')
     order by 1`
  const rows = await Promise.all(
    tables.map(async ({ name }) => [
      name,
      await sql.unsafe(`select to_jsonb(r)::text as row from ${name} r order by 1`),
    ]),
  )
  const catalog = await sql`select count(*)::int as n, max(p.oid)::text as newest from pg_proc p`
  const jobs = await sql`select count(*)::int as n from mooring_jobs.jobs`
  return JSON.stringify([rows, catalog, jobs])
}

export async function attacked(
  t: Test,
  pg: TestDatabase,
  attacker: Login,
  attacks: readonly Attack[],
): Promise<void> {
  const before = await everything(pg.sql)
  for (const [what, code, attack] of attacks) {
    const error = await attack(attacker.sql).then(
      () => null,
      (thrown: unknown) => thrown as { code?: string; message: string },
    )
    t.match(error?.code ?? 'not refused', code, `${what}: ${error?.message ?? ''}`)
    t.notMatch(
      JSON.stringify({ ...error, message: error?.message }),
      SECRET,
      `${what}: without the secret`,
    )
    await attacker.sql.unsafe('rollback').catch(() => {})
    if ((await everything(pg.sql)) !== before) t.fail(`${what} left a trace`)
  }
  t.equal(await everything(pg.sql), before, 'nothing is another than before')
}
