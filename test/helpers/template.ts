import { createHash } from 'node:crypto'
import type { Sql } from 'postgres'
import { committedMigrations } from '../../postgres/migrate/committed-migrations.js'
import { migrate } from '../../postgres/migrate/migrate.js'

/**
 * The name of a database that is migrated once. Every test starts from it. It is named after
 * the committed migrations. When they change (npm run migration:commit), the next test makes a new
 * one.
 */
export async function migratedTemplate(
  admin: Sql,
  urlOf: (database: string) => string,
): Promise<string> {
  const migrations = committedMigrations()
  if (migrations.length === 0)
    throw new Error('migrations/committed is empty: run `npm run migration:commit`')
  const key = createHash('sha256')
    .update(migrations.map(({ hash }) => hash).join(' '))
    .digest('hex')
    .slice(0, 12)
  const template = `template_${key}`
  if (await exists(admin, template)) return template
  const lock = await admin.reserve() // one process builds, the others wait for it
  try {
    await lock`select pg_advisory_lock(hashtextextended('mooring test template', 0))`
    if (await exists(lock, template)) return template
    const stale = await lock<{ datname: string }[]>`
      select d.datname
      from pg_database d
      where d.datname like 'template\\_%' or d.datname = 'unfinished_template'
    `
    for (const { datname } of stale)
      await lock.unsafe(`drop database if exists ${datname} with (force)`).catch(() => {})
    await lock.unsafe('create database unfinished_template')
    await migrate({ databaseUrl: urlOf('unfinished_template') })
    await lock.unsafe(`alter database unfinished_template rename to ${template}`)
    return template
  } finally {
    await lock`select pg_advisory_unlock_all()`.catch(() => {})
    lock.release()
  }
}

async function exists(sql: Pick<Sql, 'unsafe'>, name: string): Promise<boolean> {
  return (await sql.unsafe('select 1 from pg_database d where d.datname = $1', [name])).length > 0
}
