import pino from 'pino'
import t from 'tap'
import { createWorker } from '../../workers/runner.js'
import { testDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

const log = pino({ level: process.env['LOG'] ?? 'silent' })

t.test('a stopped worker leaves no locked job and no connection', async (t) => {
  const { url, sql } = await testDatabase(t)
  const worker = createWorker({ databaseUrl: url, log })
  t.teardown(() => worker.stop())
  worker.start()
  await waitFor(async () => (await sql`select 1 from mooring.worker`).length === 1, { label: 'the worker ticks' })
  await sql`select graphile_worker.add_job('place') from generate_series(1, 50)`
  await waitFor(async () => (await sql`select 1 from graphile_worker.jobs where locked_at is not null`).length > 0 || (await sql`select 1 from graphile_worker.jobs where task_identifier='place'`).length === 0, { label: 'a job is taken' })
  await worker.stop()
  t.equal((await sql`select 1 from graphile_worker.jobs where locked_at is not null`).length, 0)
  await waitFor(async () => (await sql`select 1 from pg_stat_activity where datname = current_database() and application_name like 'mooring worker%'`).length === 0, { label: 'no connection is left' })
})
