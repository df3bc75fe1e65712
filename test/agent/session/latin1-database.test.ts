/** A database that is not UTF8: a report arrives, with ? for what the database cannot hold. */
import { randomBytes, randomUUID } from 'node:crypto'
import t from 'tap'
import pino from 'pino'
import postgres from 'postgres'
import { createAgentDb } from '../../../agent/session/verbs.js'
import { migrate } from '../../../postgres/migrate/migrate.js'
import { createWorker } from '../../../workers/runner.js'
import { deployment } from '../../helpers/factories.js'
import { testServer } from '../../helpers/server.js'
import { waitFor } from '../../helpers/wait-for.js'

t.test('an error with characters that LATIN1 lacks is stored, with its state', async (t) => {
  const server = await testServer()
  const name = `test_${process.pid}_${randomBytes(4).toString('hex')}`
  await server.admin.unsafe(
    `create database ${name} template template0 encoding 'LATIN1' locale 'C'`,
  )
  const url = server.urlOf(name)
  const sql = postgres(url, { max: 1, onnotice() {} })
  const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
  const worker = createWorker({ databaseUrl: url, log: pino({ level: 'silent' }) })
  t.teardown(async () => {
    await worker.stop()
    db.close()
    await sql.end({ timeout: 1 })
    await server.admin.unsafe(`drop database if exists ${name} with (force)`)
    await server.release()
  })
  await migrate({ databaseUrl: url })
  const session = randomUUID()
  await db.registerNode(
    {
      node: 'host-a',
      trusts: '.',
      drivers: ['npm'],
      labels: {},
      max_assignments: null,
      agent_base_url: null,
      gateway_base_url: null,
      version: '1.0.0',
      containment: 'process-group',
    },
    session,
    null,
  )
  worker.start()
  await deployment(sql)
  const none = { cpu_pct: null, memory_mb: null, disk_free_pct: null, disk_free_bytes: null }
  await waitFor(async () => (await db.heartbeat('host-a', session, none, 0, 5_000)).owned === 1, {
    label: 'the worker has placed it',
  })
  const [owned] = await db.assignmentsOf('host-a', session)
  const { assignment_id = '', epoch = '', generation = '' } = owned ?? {}
  const report = (error: string) =>
    db.report('host-a', session, [
      {
        assignment_id,
        epoch,
        generation,
        state: 'failed',
        pid: null,
        restarts: 1,
        exit_code: 1,
        exit_signal: null,
        error,
        next_start_in_ms: 1_000,
      },
    ])
  const stored = async () =>
    (
      await sql<
        { state: string; error: string }[]
      >`select state, last_error as error from mooring.run`
    )[0]
  t.match(await report('für'), [{ accepted: true }])
  t.match(await stored(), { state: 'failed', error: 'für' }, 'what it can hold stays')
  t.match(await report('✓ done → \u{1f600}'), [{ accepted: true }])
  t.match(await stored(), { state: 'failed', error: '? done ? ?' })
})
