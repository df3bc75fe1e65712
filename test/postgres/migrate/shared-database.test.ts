/**
 * The database of an application, which has graphile-worker and graphile-migrate of its own, older
 * or of our very version, before us or after us. Neither side notices the other.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { Logger as MigrateLogger, migrate as migrateTheirs } from 'graphile-migrate'
import * as worker17 from 'graphile-worker'
import * as worker13 from 'graphile-worker-13'
import * as worker16 from 'graphile-worker-16'
import pg from 'pg'
import pino from 'pino'
import { hashOf } from '../../../postgres/migrate/committed-migrations.js'
import { migrate } from '../../../postgres/migrate/migrate.js'
import { createWorker } from '../../../workers/runner.js'
import { deployments, node } from '../../helpers/factories.js'
import { emptyDatabase } from '../../helpers/postgres.js'
import { tempDir } from '../../helpers/processes.js'
import { waitFor } from '../../helpers/wait-for.js'

type Library = Pick<typeof worker17, 'runMigrations' | 'runOnce'>
const LIBRARIES: readonly (readonly [string, Library])[] = [
  ['0.13', worker13 as unknown as Library],
  ['0.16', worker16 as unknown as Library],
  ['0.17, as ours', worker17],
]

/** The application: its library, and what its tasks have done. */
function application(t: Test, url: string, library: Library) {
  const pgPool = new pg.Pool({ connectionString: url, max: 2 })
  pgPool.on('error', () => {})
  t.teardown(() => pgPool.end())
  const done: unknown[] = []
  const logger = new worker17.Logger(() => () => {}) as never
  return {
    done,
    migrate: () => library.runMigrations({ pgPool, logger }),
    // the names of our own tasks, on purpose
    work: () =>
      library.runOnce({
        pgPool,
        logger,
        taskList: {
          place: (payload: unknown) => void done.push(payload),
          prune: (payload: unknown) => void done.push(payload),
        },
      }),
  }
}

for (const [version, library] of LIBRARIES)
  for (const first of ['them', 'us'] as const)
    t.test(`an application with graphile-worker ${version}, ${first} first`, async (t) => {
      const { url, sql } = await emptyDatabase(t)
      const theirs = application(t, url, library)
      if (first === 'them') await theirs.migrate()
      await migrate({ databaseUrl: url })
      if (first === 'us') await theirs.migrate()
      const migrations = () => sql`select id from graphile_worker.migrations order by id`
      const before = await migrations()
      await migrate({ databaseUrl: url })
      t.same(await migrations(), before, 'their schema keeps its version')

      const ours = createWorker({ databaseUrl: url, log: pino({ level: 'silent' }) })
      ours.start()
      t.teardown(() => ours.stop())
      await node(sql, { name: 'host-a' })
      for (let nr = 0; nr < 20; nr++)
        for (const task of ['place', 'prune'])
          await sql`
            select graphile_worker.add_job(${task}, ${sql.json({ nr })}::json, max_attempts => 1)`
      await deployments(sql, 5)
      await waitFor(
        async () =>
          (await sql`select from mooring.assignment a where a.node_id is not null`).length === 5,
        { label: 'our worker places' },
      )
      await sql`select mooring.prune_events()`
      await theirs.work()
      t.equal(theirs.done.length, 40, 'all of their jobs are done by them')
      await ours.stop()
      await deployments(sql, 1)
      await theirs.work()
      t.equal(theirs.done.length, 40, 'none of ours')
      t.ok((await sql`select from mooring_jobs.jobs`).length > 0)
    })

for (const first of ['them', 'us'] as const)
  t.test(`an application that uses graphile-migrate, ${first} first`, async (t) => {
    const { url, sql } = await emptyDatabase(t)
    const folder = tempDir(t, 'application')
    mkdirSync(join(folder, 'committed'))
    const body = 'create table public.deployment (theirs int primary key);'
    writeFileSync(
      join(folder, 'committed', '000001.sql'),
      `--! Previous: -\n--! Hash: ${hashOf(body, null)}\n\n${body}\n`,
    )
    const theirs = () =>
      migrateTheirs({
        connectionString: url,
        migrationsFolder: folder,
        logger: new MigrateLogger(() => () => {}),
      })
    if (first === 'them') await theirs()
    await migrate({ databaseUrl: url })
    if (first === 'us') await theirs()
    await theirs()
    t.match(await migrate({ databaseUrl: url }), { applied: [] })
    t.same(
      (await sql`select filename from graphile_migrate.migrations`).map((row) => row['filename']),
      ['000001.sql'],
    )
    await sql`insert into public.deployment values (1)`
    await sql`insert into mooring.deployment (package_name) values ('http-server')`
    // graphile-migrate keeps idle connections for 200 ms, and ends its process when one breaks
    await waitFor(
      async () =>
        (
          await sql`
            select from pg_stat_activity a
             where a.datname = current_database() and a.application_name = ''`
        ).length === 0,
      { label: 'its connections are closed' },
    )
  })
