import pino from 'pino'
import t, { type Test } from 'tap'
import { createServerClock } from '../../postgres/server-clock.js'
import { createWorkerDb } from '../../workers/verbs.js'
import { createMetronome, MAX_SLEEP_MS } from '../../workers/metronome.js'
import { heardLog } from '../agent/fleet.js'
import { node } from '../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../helpers/postgres.js'
import { waitFor } from '../helpers/wait-for.js'

function ticking(
  t: Test,
  { url }: TestDatabase,
  worker: string,
  poolIds: string[] = [],
  log = pino({ level: 'silent' }),
  watch = createServerClock(),
) {
  const db = createWorkerDb({ databaseUrl: url })
  const silences: unknown[] = []
  const metronome = createMetronome({
    db,
    worker,
    poolIds,
    onSilence: (error) => silences.push(error),
    log,
    watch,
  })
  t.teardown(async () => {
    db.close()
    await metronome.stop()
  })
  metronome.start()
  return { metronome, silences }
}

t.test("a metronome keeps its worker's name alive and its pools known", async (t) => {
  const database = await testDatabase(t)
  ticking(t, database, 'w1', ['pool-1', 'pool-2'])
  const first = await waitFor(
    async () =>
      (
        await database.sql`
          select pool_ids, ticked_at::text from mooring_internal.worker where id = 'w1'`
      )[0],
    { label: 'the first tick' },
  )
  t.same(first['pool_ids'], ['pool-1', 'pool-2'])
  await waitFor(
    async () =>
      (
        await database.sql`
          select 1 from mooring_internal.worker
          where ticked_at::text > ${first['ticked_at'] as string}`
      ).length,
    { label: 'the next', timeoutMs: MAX_SLEEP_MS + 5_000 },
  )
})

t.test('it survives whatever its tick says, and says so once', async (t) => {
  const database = await testDatabase(t)
  const { log, events } = heardLog()
  await database.sql`alter function mooring.tick rename to tock`
  ticking(t, database, 'w1', [], log)
  await waitFor(() => events('tick_failed').length, { label: 'it fails' })
  await database.sql`alter function mooring.tock rename to tick`
  await waitFor(() => events('ticking').length, { label: 'it ticks' })
  t.equal(events('tick_failed').length, 1)
})

t.test('defect 12: of many metronomes one is let through for each round', async (t) => {
  const database = await testDatabase(t)
  await database.sql`update mooring.setting set round_interval = '300 ms'`
  for (let worker = 1; worker <= 4; worker += 1) ticking(t, database, `w${worker}`)
  await waitFor(
    async () => (await database.sql`select 1 from mooring_internal.worker`).length === 4,
    {
      label: 'all tick',
    },
  )
  // no worker runs the jobs: each round has one, however many ticks requested it
  const jobs = await waitFor(
    async () => {
      const rows = await database.sql<{ task: string; n: number }[]>`
        select j.task_identifier as task, count(*)::int as n
        from mooring_jobs.jobs j group by 1 order by 1`
      return rows.length === 4 ? rows : null
    },
    { label: 'all rounds are queued' },
  )
  t.same(
    [...jobs],
    ['evict', 'place', 'prune', 'reap'].map((task) => ({ task, n: 1 })),
  )
})

t.test(
  'a metronome checks the database clock against its own: after a step nothing is reaped',
  async (t) => {
    const database = await testDatabase(t)
    await database.sql`update mooring.setting set lease_ttl = '1 hour'`
    await node(database.sql)
    const seen = () =>
      database.sql<
        { seen: string; hold: string | null }[]
      >`select w.ticked_at::text as seen, f.hold from mooring_internal.worker w, mooring.fleet f`
    let ahead = 0
    ticking(
      t,
      database,
      'w1',
      [],
      pino({ level: 'silent' }),
      createServerClock(() => performance.now() + ahead),
    )
    // healthy: several ticks, and the clocks agree
    const ticks = new Set<string>()
    await waitFor(
      async () => {
        const [row] = await seen()
        if (row) ticks.add(row.seen)
        return ticks.size === 3
      },
      { label: 'three ticks', timeoutMs: 3 * MAX_SLEEP_MS + 10_000 },
    )
    t.equal((await seen())[0]!.hold, null)
    ahead = 600_000
    await waitFor(async () => (await seen())[0]!.hold, {
      label: 'a hold',
      timeoutMs: MAX_SLEEP_MS + 10_000,
    })
    t.match((await seen())[0]!.hold, /^the clock went back by 00:(09:5|10:0)/)
  },
)
