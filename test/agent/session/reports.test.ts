import pino from 'pino'
import t, { type Test } from 'tap'
import { createAgentDb } from '../../../agent/session/verbs.js'
import { type AssignmentReport, type ObservedState } from '../../../agent/rows.js'
import { createReports, REPORT_BATCH } from '../../../agent/session/reports.js'
import { age, assignments, deployment, node, type AssignmentRow } from '../../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../../helpers/postgres.js'
import { tcpProxy } from '../../helpers/tcp-proxy.js'
import { waitFor } from '../../helpers/wait-for.js'

const log = pino({ level: 'silent' })

async function reporting(
  t: Test,
  database: TestDatabase,
  { url = database.url, replicas = 1 } = {},
) {
  const { session } = await node(database.sql, { name: 'host-a' })
  await deployment(database.sql, { command: 'sleep', replicas })
  await database.sql`select from mooring.claim()`
  const rows = await assignments(database.sql)
  const db = createAgentDb({ databaseUrl: url, node: 'host-a' })
  const sent: (readonly AssignmentReport[])[] = []
  const over: unknown[] = []
  const reports = createReports({
    db: {
      report: (...args) => {
        sent.push(args[2])
        return db.report(...args)
      },
    },
    node: 'host-a',
    session,
    onSessionOver: (error) => over.push(error),
    log,
  })
  t.teardown(async () => {
    db.close()
    await reports.stop()
  })
  return { rows, sent, over, reports, session }
}

function of(
  row: AssignmentRow,
  state: ObservedState,
  more: Partial<AssignmentReport> = {},
): AssignmentReport {
  return {
    assignment_id: row.id,
    epoch: row.epoch,
    generation: '1',
    state,
    pid: null,
    restarts: 0,
    exit_code: null,
    exit_signal: null,
    error: null,
    next_start_in_ms: null,
    ...more,
  }
}

const states = (database: TestDatabase) =>
  database.sql<
    { run_state: string | null }[]
  >`select p.run_state from mooring.placement p order by p.assignment_id`.then((rows) =>
    rows.map((row) => row.run_state),
  )

t.test('what is reported in one turn travels together, and is sent at once', async (t) => {
  const database = await testDatabase(t)
  const { rows, sent, reports } = await reporting(t, database, { replicas: 21 })
  for (const row of rows) reports.push(of(row, 'starting'))
  t.ok(await reports.flush(60_000))
  t.same(
    sent.map((batch) => batch.length),
    [21],
  )
  t.same(new Set(await states(database)), new Set(['starting']))
})

t.test(
  'a report told in the very turn in which the one before it is settled is sent too',
  async (t) => {
    const database = await testDatabase(t)
    const { session } = await node(database.sql, { name: 'host-a' })
    await deployment(database.sql, { command: 'sleep' })
    await database.sql`select from mooring.claim()`
    const [row] = await assignments(database.sql)
    const db = createAgentDb({ databaseUrl: database.url, node: 'host-a' })
    let later = (): void => {}
    // the answer to a read arrives so many microtasks after that to the report, in the same turn
    const report: typeof db.report = async (...args) => {
      const outcomes = await db.report(...args)
      later()
      return outcomes
    }
    const reports = createReports({
      db: { report },
      node: 'host-a',
      session,
      onSessionOver: () => {},
      log,
    })
    t.teardown(async () => {
      db.close()
      await reports.stop()
    })
    for (let microtasks = 0; microtasks < 16; microtasks++) {
      later = () => {
        later = () => {}
        let left = microtasks
        const step = (): void => {
          if (left-- > 0) queueMicrotask(step)
          else reports.push(of(row!, 'stopping', { restarts: microtasks + 1 }))
        }
        step()
      }
      reports.push(of(row!, 'running'))
      await waitFor(
        async () =>
          (
            await database.sql`
              select from mooring.placement p
              where p.run_state = 'stopping' and p.restarts = ${microtasks + 1}`
          ).length === 1,
        { label: `told ${microtasks} microtasks later` },
      )
    }
  },
)

t.test('batches are bounded', async (t) => {
  const database = await testDatabase(t)
  const { rows, sent, reports } = await reporting(t, database, { replicas: REPORT_BATCH + 1 })
  for (const row of rows) reports.push(of(row, 'starting'))
  t.ok(await reports.flush(60_000))
  t.same(
    sent.map((batch) => batch.length),
    [REPORT_BATCH, 1],
  )
})

t.test(
  'while the database is unreachable only the latest of each is kept, and it arrives afterwards',
  async (t) => {
    const database = await testDatabase(t)
    const proxy = await tcpProxy(t, database.url)
    const {
      rows: [row],
      sent,
      reports,
    } = await reporting(t, database, { url: proxy.url })
    proxy.reset()
    reports.push(of(row!, 'installing'))
    await waitFor(() => sent.length > 1, { label: 'tried more than once' })
    for (const state of ['starting', 'running', 'backoff'] as const) reports.push(of(row!, state))
    t.equal(reports.pending(), 1)
    t.notOk(await reports.flush(10), 'not taken in time')
    proxy.restore()
    t.ok(await reports.flush(60_000))
    t.same(await states(database), ['backoff'])
  },
)

t.test('stopped is never overwritten by what follows it: it frees the assignment', async (t) => {
  const database = await testDatabase(t)
  const {
    rows: [row],
    sent,
    reports,
  } = await reporting(t, database)
  await database.sql`update mooring.deployment set enabled = false`
  reports.push(of(row!, 'stopping'))
  reports.push(of(row!, 'stopped'))
  reports.push(of(row!, 'starting'))
  t.equal(reports.pending(), 2)
  t.ok(await reports.flush(60_000))
  t.same(
    sent.map((batch) => batch.map(({ state }) => state)),
    [['stopped'], ['starting']],
  )
  t.match(await assignments(database.sql), [{ node: null, wanted: 'stop' }])
})

t.test('a report of an epoch that is over changes nothing and is not repeated', async (t) => {
  const database = await testDatabase(t)
  const {
    rows: [row],
    sent,
    reports,
  } = await reporting(t, database)
  reports.push(of({ ...row!, epoch: '0' }, 'running'))
  t.ok(await reports.flush(60_000))
  t.equal(sent.length, 1)
  t.same(await states(database), [null])
})

t.test('text that is none to Postgres is made one', async (t) => {
  const database = await testDatabase(t)
  const {
    rows: [row],
    reports,
  } = await reporting(t, database)
  reports.push(of(row!, 'failed', { error: `a\0b\ud800c${'x'.repeat(100_000)}` }))
  t.ok(await reports.flush(60_000))
  const [placed] = await database.sql<
    { last_error: string }[]
  >`select p.last_error from mooring.placement p`
  t.match(placed?.last_error, /^a\u2400b\ufffdcx+$/)
})

t.test('one row that the database will never take does not hold back the others', async (t) => {
  const database = await testDatabase(t)
  const { rows, reports } = await reporting(t, database, { replicas: 3 })
  reports.push(of(rows[0]!, 'running'))
  reports.push(of(rows[1]!, 'dancing' as ObservedState))
  reports.push(of(rows[2]!, 'running', { pid: 4_242 }))
  t.ok(await reports.flush(60_000))
  t.same(await states(database), ['running', null, 'running'])
})

t.test('what is locked at the moment is told again until it counts', async (t) => {
  const database = await testDatabase(t)
  const {
    rows: [row],
    sent,
    reports,
  } = await reporting(t, database)
  await database.sql`update mooring.deployment set enabled = false`
  const owner = database.client()
  await owner`begin`
  await owner`select from mooring.assignment for key share`
  reports.push(of(row!, 'stopped'))
  await waitFor(() => sent.length > 1, { label: 'told again' })
  t.match(await assignments(database.sql), [{ node: 'host-a' }])
  await owner`commit`
  t.ok(await reports.flush(60_000))
  t.match(await assignments(database.sql), [{ node: null }])
})

t.test(
  'what a crash made the database forget is told again, and nothing of what is settled',
  async (t) => {
    const database = await testDatabase(t)
    const { rows, sent, reports } = await reporting(t, database, { replicas: 4 })
    const [runs, refused, outdated, replaced] = rows
    reports.push(of(runs!, 'running', { pid: 4_242 }))
    reports.push(of(refused!, 'refused'))
    reports.push(of({ ...outdated!, epoch: '0' }, 'running'))
    reports.push(of(replaced!, 'starting'))
    reports.push(of(replaced!, 'running'))
    t.ok(await reports.flush(60_000))
    await database.sql`truncate mooring.run`
    reports.repeat()
    t.ok(await reports.flush(60_000))
    t.same(
      sent.at(-1)?.map((report) => [report.assignment_id, report.state]),
      [
        [runs!.id, 'running'],
        [replaced!.id, 'running'],
      ],
    )
    t.same(await states(database), ['running', null, null, 'running'])
  },
)

t.test('a session that is over ends the reporting', async (t) => {
  const database = await testDatabase(t)
  const {
    rows: [row],
    over,
    reports,
  } = await reporting(t, database)
  await age(database.sql, 'host-a', '61 seconds ago')
  await node(database.sql, { name: 'host-a' })
  reports.push(of(row!, 'running'))
  await waitFor(() => over.length, { label: 'over' })
  t.match(over, [{ code: 'MR001' }])
})
