import { setTimeout as pause } from 'node:timers/promises'
import { Logger, run } from 'graphile-worker'
import t, { type Test } from 'tap'
import { JOBS_SCHEMA } from '../../postgres/jobs-schema.js'
import { createWorker } from '../../workers/runner.js'
import { heardLog, type HeardLog } from '../agent/fleet.js'
import { age, assignments, beat, deployment, deployments, node } from '../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../helpers/postgres.js'
import { mooring } from '../helpers/processes.js'
import { tcpProxy } from '../helpers/tcp-proxy.js'
import { waitFor } from '../helpers/wait-for.js'

/** The stop has to meet a job that runs. */
const JOB_MS = 100

interface TestWorker extends HeardLog {
  start(): void
  stop(): Promise<void>
}

function testWorker(t: Test, databaseUrl: string): TestWorker {
  const heard = heardLog()
  const worker = createWorker({ databaseUrl, log: heard.log })
  t.teardown(async () => {
    if (!t.passing()) t.comment(heard.text().slice(-6_000))
    await worker.stop()
  })
  return { ...heard, ...worker }
}

const ticking = ({ sql }: TestDatabase, workers = 1) =>
  waitFor(async () => (await sql`select 1 from mooring_internal.worker`).length === workers, {
    label: `${workers} workers tick`,
  })
const locked = ({ sql }: TestDatabase) =>
  sql`
    select 1 from mooring_jobs.jobs j
    where j.locked_at is not null and j.task_identifier in ('place', 'slow')`.then(
    (rows) => rows.length,
  )
const queued = ({ sql }: TestDatabase, task: string) =>
  sql`select 1 from mooring_jobs.jobs j where j.task_identifier = ${task}`.then(
    (rows) => rows.length,
  )
/** What is placed now is placed by the job that its INSERT has asked for. */
const withoutRounds = ({ sql }: TestDatabase) =>
  sql`
    with far as (update mooring.setting set round_interval = '10 min')
    update mooring_internal.round set due_at = clock_timestamp() + interval '9 min'`
const placed = async ({ sql }: TestDatabase) =>
  (await assignments(sql)).filter((row) => row.node !== null).length

/** Another session holds the placement lock in an open transaction: a forgotten psql. */
async function holdPlacement(database: TestDatabase): Promise<{ release(): Promise<void> }> {
  const psql = database.client('a forgotten psql')
  await psql`begin`
  // sent together: in between the session may not be idle for long
  await Promise.all([
    psql`select mooring_internal.lock_placement(must_wait => true)`,
    psql`set local idle_in_transaction_session_timeout = 0`,
  ])
  return { release: async () => void (await psql`rollback`) }
}

t.test('Y5: an insert is placed at once: trigger, job, claim', async (t) => {
  const database = await testDatabase(t)
  await node(database.sql)
  const worker = testWorker(t, database.url)
  worker.start()
  await ticking(database)
  await withoutRounds(database)
  await deployments(database.sql, 21)
  await waitFor(async () => (await placed(database)) === 21, { label: 'all 21 are placed' })
  await worker.stop()
  t.same(
    (
      await database.sql<{ kind: string; left: number }[]>`
        select e.kind, (select count(*)::int from mooring_internal.worker) as left
          from mooring.event e
         where e.kind like 'worker%'`
    ).map((row) => ({ ...row })),
    [{ kind: 'worker_ended', left: 0 }],
    'a worker that was stopped is not lost',
  )
})

t.test('more than a window is placed in several transactions', async (t) => {
  const database = await testDatabase(t)
  await node(database.sql)
  await database.sql`update mooring.setting set claim_window = 10`
  const worker = testWorker(t, database.url)
  worker.start()
  await ticking(database)
  await deployments(database.sql, 25)
  await waitFor(async () => (await placed(database)) === 25, { label: 'all 25 are placed' })
  const [row] = await database.sql<
    { n: number }[]
  >`select count(distinct a.xmin::text)::int as n from mooring.assignment a`
  t.ok(row!.n >= 3, `${row!.n} transactions`)
})

t.test(
  'a worker that is stopped in the middle of a job finishes it and leaves none locked',
  async (t) => {
    const database = await testDatabase(t)
    await node(database.sql)
    const worker = testWorker(t, database.url)
    worker.start()
    await ticking(database)
    const psql = await holdPlacement(database)
    await deployments(database.sql, 1)
    await waitFor(async () => (await locked(database)) > 0, {
      label: 'the place job is being worked on',
    })
    const stopped = worker.stop()
    await psql.release()
    await stopped
    t.equal(await locked(database), 0)
    t.equal(await placed(database), 1)
    await waitFor(
      async () =>
        (
          await database.sql`
            select 1 from pg_stat_activity a
            where a.datname = current_database() and a.application_name like 'mooring worker%'`
        ).length === 0,
      { label: 'no connection is left' },
    )
  },
)

t.test(
  "negative control: with the library's defaults a stopped worker leaves its job locked for hours",
  async (t) => {
    const database = await testDatabase(t)
    let finish = (): void => {}
    const started = new Promise<void>((resolve) => {
      finish = resolve
    })
    const runner = await run({
      connectionString: database.url,
      noHandleSignals: true,
      parsedCronItems: [],
      schema: JOBS_SCHEMA,
      logger: new Logger(() => () => {}),
      taskList: {
        slow: async () => {
          finish()
          await pause(JOB_MS)
        },
      },
    })
    runner.promise.catch(() => {})
    await database.sql`select mooring_jobs.add_job('slow')`
    await started
    await runner.stop().catch(() => {})
    t.equal(
      await locked(database),
      1,
      'when this fails, the library is mended and the two settings can go',
    )
  },
)

t.test(
  'a worker takes no job before a tick has made it known, because no other would free that job',
  async (t) => {
    const database = await testDatabase(t)
    await node(database.sql)
    const psql = database.client('a forgotten psql')
    await psql`begin`
    await psql`lock table mooring_internal.worker in exclusive mode`
    await deployments(database.sql, 1)
    const worker = testWorker(t, database.url)
    worker.start()
    const waiting = () =>
      database.sql`
        select 1 from pg_stat_activity a
        where a.datname = current_database() and a.application_name = 'mooring worker: metronome'
        and a.wait_event_type = 'Lock'`
    await waitFor(
      async () => worker.text().includes('looking for jobs') && (await waiting()).length,
      { label: 'it is there, and its tick waits' },
    )
    t.ok((await queued(database, 'place')) > 0)
    t.equal(await locked(database), 0)
    await psql`rollback`
    await waitFor(async () => (await placed(database)) === 1, { label: 'placed' })
    await waitFor(() => worker.events('worker_started').length, {
      label: 'now it says that it runs',
    })
  },
)

t.test('the jobs of a worker that was killed are freed by the tick of the others', async (t) => {
  const database = await testDatabase(t)
  await node(database.sql)
  await database.sql`
    update mooring.setting set round_interval = '200 ms', placement_lock_timeout = '1 min'`
  const doomed = mooring(t, ['worker'], { databaseUrl: database.url })
  await ticking(database)
  const psql = await holdPlacement(database)
  await deployments(database.sql, 1)
  await waitFor(async () => (await locked(database)) > 0, {
    label: 'the place job is being worked on',
  })
  doomed.kill('SIGKILL')
  await doomed.exited
  t.notMatch(doomed.stderr(), /Warning/)
  t.ok((await locked(database)) > 0)
  await psql.release()
  const other = testWorker(t, database.url)
  other.start()
  await waitFor(
    async () =>
      (await database.sql`select 1 from mooring.last_events(100) e where e.kind = 'worker_lost'`)
        .length,
    { label: 'the dead worker is found', timeoutMs: 30_000 },
  )
  await waitFor(async () => (await locked(database)) === 0 && (await placed(database)) === 1, {
    label: 'its job is done by another',
    timeoutMs: 30_000,
  })
})

t.test(
  'five hundred place jobs and a placement without end do not delay the reaping of a dead node',
  async (t) => {
    const database = await testDatabase(t)
    await database.sql`
      update mooring.setting set round_interval = '200 ms', placement_lock_timeout = '1 min'`
    const dead = await node(database.sql, { name: 'dead' })
    const alive = await node(database.sql, { name: 'alive', max_assignments: 0 })
    await deployments(database.sql, 3)
    await database.sql`select from mooring.claim()`
    t.equal(await placed(database), 3)
    const worker = testWorker(t, database.url)
    worker.start()
    await ticking(database)
    const psql = await holdPlacement(database)
    await Promise.all(Array.from({ length: 500 }, () => deployment(database.sql)))
    await beat(database.sql, alive)
    await age(database.sql, dead.name, '-61 seconds')
    await waitFor(async () => (await placed(database)) === 0, {
      label: 'reaped',
      timeoutMs: 30_000,
    })
    t.ok((await queued(database, 'place')) > 0, 'while place jobs still wait')
    await psql.release()
  },
)

t.test(
  'a placement held for too long is no failure of the job: the next round finds the rows',
  async (t) => {
    const database = await testDatabase(t)
    await node(database.sql)
    await database.sql`update mooring.setting set round_interval = '200 ms'`
    const worker = testWorker(t, database.url)
    worker.start()
    await ticking(database)
    const psql = await holdPlacement(database)
    await database.sql`update mooring.setting set placement_lock_timeout = '50 ms'`
    await deployments(database.sql, 1)
    await waitFor(() => worker.text().includes('placement has been held'), {
      label: 'the worker says who holds it',
    })
    await psql.release()
    await waitFor(async () => (await placed(database)) === 1, { label: 'placed' })
    t.equal(
      (await database.sql`select 1 from mooring_jobs.jobs j where j.last_error is not null`).length,
      0,
    )
  },
)

t.test('a worker whose connections were all killed is back at once, listening', async (t) => {
  const database = await testDatabase(t)
  await node(database.sql)
  const worker = testWorker(t, database.url)
  worker.start()
  for (let lives = 1; lives <= 4; lives += 1) {
    await waitFor(() => worker.events('worker_started').length === lives, {
      label: `life ${lives}`,
    })
    if (lives === 4) break
    await database.sql`
      select pg_terminate_backend(a.pid) from pg_stat_activity a
      where a.datname = current_database() and a.application_name like 'mooring worker%'`
  }
  await withoutRounds(database)
  await deployments(database.sql, 5)
  await waitFor(async () => (await placed(database)) === 5, { label: 'placed' })
})

t.test(
  'a database that is down at first, goes silent and comes back is used again; stop never waits',
  async (t) => {
    const database = await testDatabase(t)
    const host = await node(database.sql)
    const proxy = await tcpProxy(t, database.url)
    proxy.reset()
    const worker = testWorker(t, proxy.url)
    worker.start()
    await waitFor(() => worker.events('worker_away').length, { label: 'it says so' })
    proxy.restore()
    await ticking(database)
    proxy.cut()
    await waitFor(() => worker.events('tick_failed').length, {
      label: 'the silence is noticed',
      timeoutMs: 30_000,
    })
    proxy.restore()
    await waitFor(() => worker.events('worker_started').length === 2, { label: 'a new life' })
    const name = String(worker.events('worker_started')[1]!['worker'])
    await waitFor(
      async () =>
        (await database.sql`select 1 from mooring_internal.worker w where w.id = ${name}`).length >
        0,
      { label: 'it has ticked: whether there is a hold is decided' },
    )
    // no worker ticked for a while
    await database.sql`
      update mooring_internal.pulse
      set hold_until = null, pulse_at = clock_timestamp()`
    await beat(database.sql, host)
    await deployments(database.sql, 1)
    await waitFor(async () => (await placed(database)) === 1, { label: 'placed' })
    proxy.reset()
    await waitFor(() => worker.events('worker_away').length === 3, { label: 'away again' })
    await worker.stop()
    t.equal(
      new Set(worker.text().match(/postgres:\/\//g)).size,
      0,
      'no address, so no password, in the log',
    )
  },
)

t.test('stop is legal before start and twice', async (t) => {
  const worker = testWorker(t, 'postgres://nobody@127.0.0.1:1/none')
  await worker.stop()
  worker.start()
  await worker.stop()
  const other = testWorker(t, 'postgres://nobody@127.0.0.1:1/none')
  other.start()
  await Promise.all([other.stop(), other.stop()])
})
