import { randomBytes } from 'node:crypto'
import postgres from 'postgres'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import type { TestDatabase } from './postgres.js'
import { testServer } from './server.js'

export interface Login {
  name: string
  /** the address of the test's database, as this role */
  url: string
  /** one connection, so that what is begun or set in one query is there in the next */
  sql: Sql
}

/** A role of the cluster that may log in, member of these groups; gone when the test is over. */
export async function login(
  t: Test,
  database: Pick<TestDatabase, 'url'>,
  groups: readonly string[] = [],
  attributes = '',
): Promise<Login> {
  const server = await testServer()
  const name = `test_${process.pid}_${randomBytes(4).toString('hex')}`
  const password = randomBytes(12).toString('hex')
  await server.admin.unsafe(`create role ${name} login password '${password}' ${attributes}`)
  for (const group of groups) await server.admin.unsafe(`grant ${group} to ${name}`)
  const url = Object.assign(new URL(database.url), { username: name, password }).href
  const sql = postgres(url, {
    max: 1,
    onnotice: () => {},
    connection: { application_name: 'test: another role' },
  })
  t.teardown(async () => {
    await sql.end({ timeout: 1 })
    await server.admin.unsafe(`drop role if exists ${name}`).catch(() => {})
    await server.release()
  })
  return { name, url, sql }
}
