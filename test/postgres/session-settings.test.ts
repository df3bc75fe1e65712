/** A role or database with other defaults than ours: every program of ours works all the same. */
import { randomUUID } from 'node:crypto'
import t from 'tap'
import pino from 'pino'
import postgres from 'postgres'
import { createAgentDb } from '../../agent/session/verbs.js'
import { migrate } from '../../postgres/migrate/migrate.js'
import { SESSION_SETTINGS, settingOptions } from '../../postgres/session-settings.js'
import { createWorker } from '../../workers/runner.js'
import { deployment } from '../helpers/factories.js'
import { emptyDatabase } from '../helpers/postgres.js'
import { mooring } from '../helpers/processes.js'
import { waitFor } from '../helpers/wait-for.js'

const HOSTILE: Record<string, string> = {
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'on',
  default_transaction_deferrable: 'on',
  DateStyle: 'German',
  IntervalStyle: 'sql_standard',
  TimeZone: 'Asia/Kathmandu',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  standard_conforming_strings: 'off',
  client_encoding: 'LATIN1',
  statement_timeout: '20ms',
  lock_timeout: '1ms',
  idle_in_transaction_session_timeout: '20ms',
  idle_session_timeout: '200ms',
}

t.test('migrate, agent, worker and command in a database with hostile defaults', async (t) => {
  const { url, name, sql: admin } = await emptyDatabase(t)
  for (const [setting, value] of Object.entries(HOSTILE))
    await admin.unsafe(`alter database ${name} set ${setting} = '${value}'`)
  await migrate({ databaseUrl: url })
  const sql = postgres(url, {
    max: 1,
    onnotice() {},
    connection: { options: settingOptions(SESSION_SETTINGS) } as object,
  })
  t.teardown(() => sql.end({ timeout: 1 }))
  const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
  t.teardown(db.close)
  const session = randomUUID()
  await db.registerNode(
    {
      node: 'host-a',
      trusts: '.',
      drivers: ['npm'],
      labels: { note: 'a\\b' },
      max_assignments: null,
      agent_base_url: null,
      gateway_base_url: null,
      version: '1.0.0',
      containment: 'process-group',
    },
    session,
    null,
  )
  const worker = createWorker({ databaseUrl: url, log: pino({ level: 'silent' }) })
  worker.start()
  t.teardown(() => worker.stop())
  await deployment(sql, { lease_ttl: '1500 ms' })
  const none = { cpu_pct: 0.1 + 0.2, memory_mb: null, disk_free_pct: null, disk_free_bytes: null }
  await waitFor(async () => (await db.heartbeat('host-a', session, none, 0, 5_000)).owned === 1, {
    label: 'the worker has placed it',
  })
  const [owned] = await db.assignmentsOf('host-a', session)
  t.match(owned, { lease_ttl_ms: 1_500, epoch: '1' })
  t.match(await sql`select cpu_pct from mooring.heartbeat`, [{ cpu_pct: 0.1 + 0.2 }])
  for (const args of [
    ['get', 'nodes', '--json'],
    ['doctor', '--json'],
    ['enable', 'deployment', 'id:1'],
  ]) {
    const command = mooring(t, args, { databaseUrl: url })
    const { code } = await command.exited
    t.ok(code === 0 || args[0] === 'doctor', `${args.join(' ')}: ${command.stderr()}`)
    t.notMatch(command.stderr(), /read-only|timeout/)
  }
})
