import { randomBytes } from 'node:crypto'
import postgres from 'postgres'
import type { Sql } from 'postgres'
import type { Test } from 'tap'
import { testServer } from './server.js'
import { migratedTemplate } from './template.js'

export interface TestDatabase {
  /** the address of the database, as DATABASE_URL */
  url: string
  name: string
  /** at most 4 connections */
  sql: Sql
  /** Another session, with one connection of its own: for open transactions and for locks. */
  client(applicationName?: string): Sql
}

/** A fresh, migrated database for this test; gone when the test is over. */
export async function testDatabase(t: Test): Promise<TestDatabase> {
  const database = await makeDatabase(t, { migrated: true })
  return database
}

/** A database with nothing in it: for tests of the migration itself. */
export const emptyDatabase = (t: Test): Promise<TestDatabase> =>
  makeDatabase(t, { migrated: false })

async function makeDatabase(t: Test, { migrated }: { migrated: boolean }): Promise<TestDatabase> {
  const server = await testServer()
  // the pid names the test process that owns the database: a server that is about to stop drops
  // the databases of dead test processes
  const name = `test_${process.pid}_${randomBytes(4).toString('hex')}`
  const clients: Sql[] = []
  t.teardown(async () => {
    await Promise.all(clients.map((client) => client.end({ timeout: 1 })))
    await server.admin.unsafe(`drop database if exists ${name} with (force)`)
    await server.release()
  })
  if (migrated) await copyTemplate(server.admin, server.urlOf, name)
  else await server.admin.unsafe(`create database ${name}`)
  const url = server.urlOf(name)
  const connect = (max: number, applicationName: string): Sql => {
    const client = postgres(url, {
      max,
      onnotice: () => {},
      connection: { application_name: applicationName },
    })
    clients.push(client)
    return client
  }
  return {
    url,
    name,
    sql: connect(4, 'test'),
    client: (applicationName = 'test: another session') => connect(1, applicationName),
  }
}

async function copyTemplate(
  admin: Sql,
  urlOf: (database: string) => string,
  name: string,
): Promise<void> {
  for (let tries = 1; ; tries++) {
    const template = await migratedTemplate(admin, urlOf)
    try {
      await admin.unsafe(`create database ${name} template ${template} strategy file_copy`)
    } catch (error) {
      // 3D000: a run with other migrations has replaced the template in this moment
      if ((error as { code?: string }).code !== '3D000' || tries === 3) throw error
      continue
    }
    // settings of a database belong to its name and are not copied with it
    const [setting] = await admin<{ setconfig: string[] }[]>`
      select s.setconfig
      from pg_db_role_setting s
      join pg_database d on d.oid = s.setdatabase
      where d.datname = ${template} and s.setrole = 0`
    for (const text of setting?.setconfig ?? [])
      await admin.unsafe(`alter database ${name} set ${text.replace('=', ' = ')}`)
    return
  }
}
