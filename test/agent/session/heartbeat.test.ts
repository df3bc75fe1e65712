import pino from 'pino'
import t, { type Test } from 'tap'
import { createAgentDb, type AgentDb } from '../../../agent/session/verbs.js'
import { type UsageSample } from '../../../agent/rows.js'
import {
  createHeartbeat,
  type Beat,
  type Heartbeat,
  type HeartbeatOptions,
} from '../../../agent/session/heartbeat.js'
import { age, assignments, deployment, node } from '../../helpers/factories.js'
import { testDatabase, type TestDatabase } from '../../helpers/postgres.js'
import { waitFor } from '../../helpers/wait-for.js'

const log = pino({ level: 'silent' })
const sample: UsageSample = {
  cpu_pct: 12.5,
  memory_mb: 300,
  disk_free_pct: 60,
  disk_free_bytes: 5_000_000_000,
}

/** On a busy machine a beat may miss its deadline; the loop would repeat it, and so does this. */
const beaten = (heartbeat: Heartbeat) =>
  waitFor(() => heartbeat.runOnce(), { label: 'a beat is answered' })

const beatBackends = (sql: TestDatabase['sql']) =>
  sql`a.datname = current_database() and a.application_name = 'mooring agent host-a: beat'`

async function beating(
  t: Test,
  database: TestDatabase,
  {
    wrap = (db) => db,
    ...more
  }: Partial<HeartbeatOptions> & { wrap?: (db: AgentDb) => HeartbeatOptions['db'] } = {},
) {
  const { session } = await node(database.sql, { name: 'host-a' })
  const db = createAgentDb({ databaseUrl: database.url, node: 'host-a' })
  const beats: Beat[] = []
  const over: unknown[] = []
  const heartbeat = createHeartbeat({
    db: wrap(db),
    node: 'host-a',
    session,
    leaseTtlMs: 12_000,
    beatIntervalMs: 3_000,
    sample: () => sample,
    running: () => 7,
    onBeat: (beat) => beats.push(beat),
    onSessionOver: (error) => over.push(error),
    log,
    ...more,
  })
  t.teardown(async () => {
    db.close()
    await heartbeat.stop()
  })
  return { session, db, heartbeat, beats, over }
}

t.test(
  'Y19: a beat carries the usage and brings back what the node owns and when to beat next',
  async (t) => {
    const database = await testDatabase(t)
    const { heartbeat, beats } = await beating(t, database)
    await beaten(heartbeat)
    t.match(beats, [
      { answer: { owned: 0, lease_ttl_ms: 12_000, next_beat_ms: 3_000, hold: false } },
    ])
    const [row] = await database.sql`
        select cpu_pct, memory_mb, disk_free_pct, disk_free_bytes, running from mooring.heartbeat`
    t.same(row, { ...sample, disk_free_bytes: '5000000000', running: 7 })
  },
)

t.test('a sample that cannot be taken is no reason not to beat, and never a zero', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat } = await beating(t, database, {
    sample: () => {
      throw new Error('no /proc')
    },
  })
  await beaten(heartbeat)
  t.same((await database.sql`select cpu_pct, memory_mb from mooring.heartbeat`)[0], {
    cpu_pct: null,
    memory_mb: null,
  })
})

t.test('its time is the start of the request, however late the answer comes', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { clock: () => performance.now() })
  await beaten(heartbeat) // the connection is there
  const blocker = database.client()
  // null: it missed its deadline while the machine was busy
  const lockedAtMs = await waitFor(
    async () => {
      await blocker`begin`
      await blocker`select from mooring.heartbeat for update`
      let over = false
      const beat = heartbeat.runOnce().finally(() => {
        over = true
      })
      await waitFor(
        async () =>
          over ||
          (
            await database.sql`
              select from pg_stat_activity a
              where ${beatBackends(database.sql)} and a.wait_event_type = 'Lock'`
          ).length > 0,
        { label: 'the beat waits for its row' },
      )
      const now = performance.now()
      await blocker`commit`
      return (await beat) ? now : null
    },
    { label: 'a beat that had to wait is answered' },
  )
  t.ok(beats.at(-1)!.tMs <= lockedAtMs, 'counted from a moment when no answer was possible yet')
})

t.test(
  'a beat that is not answered in time fails, and the next one succeeds over a new connection',
  async (t) => {
    const database = await testDatabase(t)
    const { heartbeat, beats } = await beating(t, database, { leaseTtlMs: 600 })
    const blocker = database.client()
    await blocker`begin`
    await blocker`select from mooring.heartbeat for update`
    t.notOk(await heartbeat.runOnce())
    t.same(beats, [])
    await blocker`commit`
    await beaten(heartbeat)
  },
)

t.test(
  'one request is in flight at any time, and a locked row does not collect backends',
  async (t) => {
    const database = await testDatabase(t)
    const inFlight: number[] = []
    let inUse = 0
    const { heartbeat, beats } = await beating(t, database, {
      leaseTtlMs: 600,
      beatIntervalMs: 20,
      wrap: (db) => ({
        ...db,
        async heartbeat(...args) {
          inFlight.push((inUse += 1))
          return await db.heartbeat(...args).finally(() => {
            inUse -= 1
          })
        },
      }),
    })
    const blocker = database.client()
    await blocker`begin`
    await blocker`select from mooring.heartbeat for update`
    heartbeat.start()
    heartbeat.start()
    await waitFor(() => inFlight.length >= 20, { label: 'many attempts' })
    // the server gives up a beat when the agent does, give or take what a busy machine needs
    await waitFor(
      async () =>
        (
          await database.sql`
            select from pg_stat_activity a
            where ${beatBackends(database.sql)} and a.state = 'active'`
        ).length <= 2,
      {
        label: 'twenty attempts have left no more than two backends, with the row still locked',
        show: () =>
          database.sql`select a.* from pg_stat_activity a where ${beatBackends(database.sql)}`,
      },
    )
    t.same(beats, [], 'the row was locked all the time')
    await blocker`commit`
    await waitFor(() => beats.length > 3, { label: 'beating again' })
    t.same(new Set(inFlight), new Set([1]))
  },
)

t.test('beatSoon brings the next beat forward', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, beats } = await beating(t, database, { beatIntervalMs: 3_600_000 })
  await database.sql`update mooring.setting set lease_ttl = '1 hour', beat_interval = '10 min'`
  heartbeat.start()
  await waitFor(() => beats.length === 1, { label: 'the first' })
  heartbeat.beatSoon()
  await waitFor(() => beats.length === 2, { label: 'the second' })
})

t.test('a terminated backend costs one beat', async (t) => {
  const database = await testDatabase(t)
  await database.sql`update mooring.setting set beat_interval = '50 ms'`
  const { heartbeat, beats } = await beating(t, database, { beatIntervalMs: 50 })
  heartbeat.start()
  for (let kills = 0; kills < 5; kills += 1) {
    const soFar = beats.length
    await waitFor(() => beats.length > soFar, { label: 'a beat' })
    await database.sql`
      select pg_terminate_backend(a.pid) from pg_stat_activity a
      where ${beatBackends(database.sql)}`
  }
  const epoch = beats.at(-1)!.connectionEpoch
  await waitFor(() => beats.at(-1)!.connectionEpoch > epoch || epoch >= 5, {
    label: 'beats say that the connection is another one',
  })
})

t.test('a session that is over is told once and ends the beating', async (t) => {
  const database = await testDatabase(t)
  const { heartbeat, over } = await beating(t, database, { beatIntervalMs: 20 })
  await age(database.sql, 'host-a', '61 seconds ago')
  await node(database.sql, { name: 'host-a' })
  heartbeat.start()
  await waitFor(() => over.length, { label: 'over' })
  t.match(over, [{ code: 'MR001' }])
  await heartbeat.runOnce()
  t.equal(over.length, 1)
})

t.test('with no worker alive the beats run the rounds that are overdue', async (t) => {
  const database = await testDatabase(t)
  await database.sql`update mooring.setting set beat_interval = '50 ms', round_interval = '100 ms'`
  const { heartbeat } = await beating(t, database, { beatIntervalMs: 50 })
  heartbeat.start()
  await deployment(database.sql)
  await waitFor(async () => (await assignments(database.sql))[0]?.node === 'host-a', {
    label: 'placed without a worker',
  })
})
